"""JSON documents as an API server treats them: merge patches, labels that must be labels, timestamps."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from controller.core.objects import OUR_FINALIZERS, Kind
from controller.ports import Conflict, Rejected

if TYPE_CHECKING:
    from collections.abc import Mapping

Doc: TypeAlias = dict[str, Any]
Name: TypeAlias = tuple[str, str]

RESERVED: Final = "ovn.kubernetes.io/ip_reserved"
IMMUTABLE: Final = ("subnet", "podName", "namespace", "podType", "v4IpAddress", "v6IpAddress", "macAddress")

_LABEL_PART: Final = re.compile(r"([A-Za-z0-9][A-Za-z0-9_.-]{0,61})?[A-Za-z0-9]\Z")
_OBJECT_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?\Z")


def merge(target: Any, patch: Any) -> Any:
    """RFC 7386; nothing of the target is changed in place."""
    if not hasattr(patch, "items"):
        return list(patch) if isinstance(patch, tuple) else patch
    result: Doc = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge(result.get(key), value)
    return result


def meta(doc: Mapping[str, Any]) -> Doc:
    """The metadata of a document."""
    found: Doc = doc["metadata"]
    return found


def labels(doc: Mapping[str, Any]) -> dict[str, str]:
    """The labels of a document, none if it has none."""
    return meta(doc).get("labels") or {}


def notes(doc: Mapping[str, Any]) -> dict[str, str]:
    """The annotations of a document, none if it has none."""
    return meta(doc).get("annotations") or {}


def finalizers(doc: Mapping[str, Any]) -> tuple[str, ...]:
    """The finalizers of a document."""
    return tuple(meta(doc).get("finalizers") or ())


def spec(doc: Mapping[str, Any]) -> Doc:
    """The spec of a document, empty if it has none."""
    return doc.get("spec") or {}


def deleting(doc: Mapping[str, Any]) -> bool:
    """True from the moment a deletion was accepted."""
    return meta(doc).get("deletionTimestamp") is not None


def ours(doc: Mapping[str, Any]) -> bool:
    """True while a finalizer of ours, new or old, is on it."""
    return not OUR_FINALIZERS.isdisjoint(finalizers(doc))


def timestamp(wall: float) -> str:
    """RFC 3339 with whole seconds, as metav1.Time is written."""
    return datetime.fromtimestamp(int(wall), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def validate(kind: Kind, doc: Doc) -> None:
    """Refuse what every API server refuses, whatever the kind."""
    name = meta(doc).get("name") or ""
    if not _OBJECT_NAME.match(name):
        raise Rejected(f"{kind} {name!r}: not a DNS subdomain")
    for key, value in labels(doc).items():
        prefix, slash, rest = key.rpartition("/")
        if not _LABEL_PART.match(rest) or (slash and not _OBJECT_NAME.match(prefix)):
            raise Rejected(f"{kind} {name}: {key!r} is no label key")
        if not isinstance(value, str) or (value and not _LABEL_PART.match(value)):
            raise Rejected(f"{kind} {name}: {value!r} is no label value")
    for key, value in notes(doc).items():
        if not isinstance(value, str):
            raise Rejected(f"{kind} {name}: annotation {key} is not a string")
    if kind in (Kind.IP, Kind.SUBNET):
        _validate_schema(kind, name, doc)


_STRINGS: Final = (*IMMUTABLE, "ipAddress", "nodeName", "containerID", "cidrBlock", "gateway", "provider", "vpc")
_LISTS: Final = ("excludeIps", "namespaces", "attachIps", "attachMacs", "attachSubnets")


def _validate_schema(kind: Kind, name: str, doc: Doc) -> None:
    for field, value in spec(doc).items():
        if field in _STRINGS and not isinstance(value, str):
            raise Rejected(f"{kind} {name}: spec.{field} must be a string, not {value!r}")
        if field in _LISTS and not isinstance(value, list):
            raise Rejected(f"{kind} {name}: spec.{field} must be a list, not {value!r}")


def admit(old: Doc, new: Doc) -> None:
    """The shipped ValidatingAdmissionPolicy (manifests/policy): what is set on an IP of ours does not change."""
    if not ours(old):
        return
    for field in IMMUTABLE:
        before, after = spec(old).get(field) or "", spec(new).get(field) or ""
        if before not in {after, ""}:
            raise Rejected(f"spec.{field} of a reservation is immutable: {before!r} to {after!r}")


def expect(old: Doc, body: Mapping[str, Any]) -> None:
    """Refuse a patch whose preconditions do not hold any more."""
    wanted = body.get("metadata") or {}
    for key in ("uid", "resourceVersion"):
        if wanted.get(key) and str(wanted[key]) != meta(old)[key]:
            raise Conflict(f"{meta(old)['name']}: {key} is {meta(old)[key]}, not {wanted[key]}")
    for key in ("name", "namespace"):
        if wanted.get(key) and wanted[key] != meta(old).get(key, ""):
            raise Rejected(f"{meta(old)['name']}: a patch cannot change metadata.{key}")
