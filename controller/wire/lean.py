"""kubernetes_asyncio's configuration without the rest of it.

Its packages import each other whole: 880 modules of models and API groups, 37 MB and 0.3 s of CPU for two classes and
a loader. While these are imported, bare packages stand in for the ones whose `__init__` does that; afterwards they are
gone, so whoever imports kubernetes_asyncio later gets all of it, with these very classes.
"""

from __future__ import annotations

import importlib
import sys
from importlib.machinery import ModuleSpec
from importlib.util import find_spec, module_from_spec
from pathlib import Path
from typing import Any, Final

_ROOT: Final = "kubernetes_asyncio"
_HEAVY: Final = (_ROOT, f"{_ROOT}.client", f"{_ROOT}.client.models")


def load() -> tuple[Any, Any, Any]:
    """The module `config` and the classes `ApiClient` and `Configuration`."""
    if _ROOT in sys.modules:  # somebody else wanted all of it
        client = importlib.import_module(f"{_ROOT}.client")
        return importlib.import_module(f"{_ROOT}.config"), client.ApiClient, client.Configuration
    stand_ins = _stand_ins()
    sys.modules |= stand_ins
    try:
        client = stand_ins[f"{_ROOT}.client"]
        client.Configuration = importlib.import_module(f"{_ROOT}.client.configuration").Configuration
        client.ApiClient = importlib.import_module(f"{_ROOT}.client.api_client").ApiClient
        return importlib.import_module(f"{_ROOT}.config"), client.ApiClient, client.Configuration
    finally:
        for name in stand_ins:
            sys.modules.pop(name, None)


def _stand_ins() -> dict[str, Any]:
    """Packages of those names that find their modules and have run nothing."""
    found = find_spec(_ROOT)  # does not import a top-level package
    if found is None or not found.submodule_search_locations:
        raise ModuleNotFoundError(_ROOT)
    home = Path(found.submodule_search_locations[0])
    stand_ins: dict[str, Any] = {}
    for name in _HEAVY:
        spec = ModuleSpec(name, None, is_package=True)
        spec.submodule_search_locations = [str(home.joinpath(*name.split(".")[1:]))]
        stand_ins[name] = module_from_spec(spec)
    for name in _HEAVY[1:]:
        parent, _, child = name.rpartition(".")
        setattr(stand_ins[parent], child, stand_ins[name])
    return stand_ins
