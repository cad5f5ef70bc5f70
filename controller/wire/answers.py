"""What an HTTP answer of the API server means: an error of ports.py, said here and nowhere else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import aiohttp
import msgspec

from controller.ports import Conflict, Denied, Gone, NotFound, PortError, Rejected, Unavailable

if TYPE_CHECKING:
    from collections.abc import Mapping

_SHOWN: Final = 300
_WISH_MAX: Final = 60.0  # no server that is well asks for more; one that is not shall keep nobody waiting for ever


class _Cause(msgspec.Struct, frozen=True):
    field: str = ""


class _Details(msgspec.Struct, frozen=True, rename="camel"):
    name: str = ""
    retry_after_seconds: float = 0
    causes: tuple[_Cause, ...] = ()


class Status(msgspec.Struct, frozen=True, rename="camel"):
    """metav1.Status."""

    kind: str = ""
    message: str = ""
    reason: str = ""
    code: int = 0
    details: _Details | None = None


class Nowhere(Unavailable):
    """A 404 that is about the path, not about a name: the kind may not be served, or a proxy says so."""


class _Named(msgspec.Struct, frozen=True):
    name: str = ""


class _Offer(msgspec.Struct, frozen=True):
    """APIGroupList or APIResourceList."""

    kind: str = ""
    groups: tuple[_Named, ...] = ()
    resources: tuple[_Named, ...] = ()


_STATUS: Final = msgspec.json.Decoder(Status)
_OFFER: Final = msgspec.json.Decoder(_Offer)

# For good: the same request would be refused again whatever the state of the server.
_REJECTED: Final = frozenset({400, 405, 406, 413, 414, 415, 422})
_DENIED: Final = frozenset({401, 403})


def read_status(body: bytes | msgspec.Raw) -> Status:
    """Read a Status; a body that is none (HTML of a proxy, plain text) gives an empty one."""
    try:
        status = _STATUS.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Status()
    return status if status.kind == "Status" else Status()


def offers(body: bytes, name: str) -> bool:
    """True if the server's own list of groups or resources has this one; raises Unavailable for any other text."""
    try:
        offer = _OFFER.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        offer = _Offer()
    if offer.kind not in {"APIGroupList", "APIResourceList"}:
        raise Unavailable("discovery answers no list", unknown=False)
    return any(one.name == name for one in (*offer.groups, *offer.resources))


def refusal(code: int, headers: Mapping[str, str], body: bytes, *, write: bool) -> PortError:
    """Turn an answer that is no success into its error."""
    status = read_status(body)
    text = f"{code} {status.reason}: {status.message}" if status.kind else f"{code}: {_start(body)}"
    if code == 404:
        # Only the API server's own word on this very name is proof of absence: a proxy's 404, or that of a server
        # whose CRD is not served at the moment, is not (contract, rule 2).
        proven = status.reason == "NotFound" and status.details is not None and status.details.name
        return NotFound(text) if proven else Nowhere(text, unknown=False)
    if code == 409 or (code == 422 and _of_another_life(status)):
        return Conflict(text)
    if code == 410:
        return Gone(text)
    if code in _DENIED:
        return Denied(text)
    if code in _REJECTED:
        return Rejected(text)
    # 429 comes from before the request was looked at. After any 5xx, also a proxy's 503, the write may have happened.
    served = write and code >= 500
    return Unavailable(text, unknown=served, retry_after=_retry_after(headers, status))


def _of_another_life(status: Status) -> bool:
    """Tell whether the uid in a patch is not the object's: measured on 1.36, that is 422 and not 409."""
    return status.details is not None and any(cause.field == "metadata.uid" for cause in status.details.causes)


def broken(code: int, text: str) -> PortError:
    """Turn the Status inside a watch's ERROR event into its error."""
    return Gone(text) if code == 410 else Unavailable(f"{code}: {text}", unknown=False)


def silence(error: Exception, *, write: bool) -> Unavailable:
    """Turn a failed exchange into its error; only before the connection stands it is sure that nothing was sent."""
    unsent = isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError)
    return Unavailable(f"{type(error).__name__}: {error}", unknown=write and not unsent)


def _retry_after(headers: Mapping[str, str], status: Status) -> float | None:
    try:
        wish = float(headers.get("Retry-After", ""))
    except ValueError:  # absent, or a date, which the API server never sends
        wish = status.details.retry_after_seconds if status.details else 0.0
    return min(wish, _WISH_MAX) if wish > 0.0 else None


def _start(body: bytes) -> str:
    return body[:_SHOWN].decode(errors="replace")
