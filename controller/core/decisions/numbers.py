"""The address numbers of a Subnet's and an IPPool's status: Kube-OVN's eight fields from one snapshot."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from controller.core.ipam import FAMILIES

if TYPE_CHECKING:
    from controller.core.addresses import Family
    from controller.core.ipam import Usage
    from controller.core.neighbours import PoolStatus
    from controller.core.objects import SubnetStatus


def changed(usage: dict[Family, Usage], shown: SubnetStatus | PoolStatus) -> dict[str, Any]:
    """All eight where any differs from what is shown, else `{}`: used + available + excluded = total (bug row 43).

    Each kind has its own letter case (kube-ovn-behaviour §3.2, §3.3). Counts beyond 2^53 come back from the API server
    as floats: equal as floats is equal.
    """
    told: dict[str, int | str] = {}
    for family in FAMILIES:
        one = usage.get(family)
        for name, part in (("available", one and one.available), ("using", one and one.using)):
            told[f"v{family}_{name}"] = part.size if part else 0
            told[f"v{family}_{name}_range"] = part.render(family) if part else ""
    if all(getattr(shown, name) == (float(value) if isinstance(value, int) else value) for name, value in told.items()):
        return {}
    return {field.encode_name: told[field.name] for field in msgspec.structs.fields(shown) if field.name in told}
