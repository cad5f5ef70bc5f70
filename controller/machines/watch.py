"""List and watch one kind: an enum of states and one transition function (after kube-rs' watcher.rs).

    Empty --PageArrived--> Listing --PageArrived, last--> Watching --Batch--> Watching
      ^                       |                              |
      +------- Expired -------+----------- Expired ----------+      Ended, Failed: stay, and ask again after a while

Each state carries exactly the data that is legal in it. The driver does what `Step.next` says, tells the replica what
`Step.tell` says, and feeds the answer back in:

    AskPage  -> PageArrived | Expired | Failed | Unserved      Wait -> Rested
    AskWatch -> Batch*, then Ended | Expired | Failed | Unserved      None -> read on in the stream that is open

Unserved leads to Empty from everywhere: the kind is unknown to the server, which is asked again after a while.

Guarantees: a replica that does what it is told shows a list whole or not at all, then every change in order; a cut
stream resumes from the last version; whatever the server does, there is no unbounded rate of requests: only a stream
that brought something is reopened without a pause.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING, Final, Generic, Protocol, TypeAlias, TypeVar, assert_never

from controller.core.faults import Impossible
from controller.machines.backoff import Backoff

if TYPE_CHECKING:
    from controller.core.objects import Seconds

V = TypeVar("V")


class Versioned(Protocol):
    """A change or a bookmark: all that this machine knows of it is how far it brings us."""

    @property
    def version(self) -> int:
        """The resourceVersion after it."""
        ...


C = TypeVar("C", bound=Versioned)

BACKOFF: Final = Backoff(base=0.05, cap=10.0)
UNSERVED_S: Final = 10.0  # between two questions for a kind whose CRD may come later


# --- states


@dataclass(frozen=True, slots=True)
class Empty:
    """Nothing is known; a list has to be begun.

    `failures` counts failed requests in a row; `barren` counts the attempts in a row to get from here to a stream
    that brings something: pages alone do not reset it, or a server whose lists expire at once would be asked for
    them in a tight loop.
    """

    failures: int = 0
    barren: int = 0


@dataclass(frozen=True, slots=True)
class Listing(Generic[V]):
    """Some pages are here; the next one is behind `token`. `version` is the list's: that of its first page."""

    token: str
    buffered: tuple[tuple[V, ...], ...]
    version: int
    failures: int = 0
    barren: int = 0


@dataclass(frozen=True, slots=True)
class Watching:
    """Everything up to `version` has been told; `heard` says whether the present stream has brought anything."""

    version: int
    barren: int = 0
    heard: bool = False


State: TypeAlias = Empty | Listing[V] | Watching


# --- inputs


@dataclass(frozen=True, slots=True)
class PageArrived(Generic[V]):
    """One page of the list; `token` is "" on the last one."""

    objects: tuple[V, ...]
    version: int
    token: str


@dataclass(frozen=True, slots=True)
class Batch(Generic[C]):
    """Changes and bookmarks in order, at least one."""

    changes: tuple[C, ...]


@dataclass(frozen=True, slots=True)
class Ended:
    """The server closed the stream in good order."""


@dataclass(frozen=True, slots=True)
class Expired:
    """The page token or the version to watch from is too old (410)."""


@dataclass(frozen=True, slots=True)
class Failed:
    """A request or a stream broke; the server may have said how long to stay away."""

    retry_after: Seconds | None = None


@dataclass(frozen=True, slots=True)
class Unserved:
    """The server does not know the kind: its CRD is not there (yet, or any more)."""


@dataclass(frozen=True, slots=True)
class Rested:
    """The wait is over."""


Input: TypeAlias = PageArrived[V] | Batch[C] | Ended | Expired | Failed | Unserved | Rested


# --- outputs


@dataclass(frozen=True, slots=True)
class AskPage:
    """Request the page behind this token ("" begins a list)."""

    token: str


@dataclass(frozen=True, slots=True)
class AskWatch:
    """Open a stream of changes after this version."""

    version: int


@dataclass(frozen=True, slots=True)
class Wait:
    """Do nothing for that long."""

    seconds: Seconds


@dataclass(frozen=True, slots=True)
class Swap(Generic[V]):
    """Tell the replica that this is all there is."""

    objects: tuple[V, ...]
    version: int


@dataclass(frozen=True, slots=True)
class Apply(Generic[C]):
    """Tell the replica these changes, bookmarks included."""

    changes: tuple[C, ...]


@dataclass(frozen=True, slots=True)
class Absent:
    """Tell the replica that the kind is not served: what it holds is neither true nor false any more."""


@dataclass(frozen=True, slots=True)
class Step(Generic[V, C]):
    """The state to go on from, what to tell the replica, and what to do then (None: read on in the open stream)."""

    state: State[V]
    next: AskPage | AskWatch | Wait | None
    tell: Swap[V] | Apply[C] | Absent | None = None


def start() -> Step[V, C]:
    """Begin with a list."""
    return Step(Empty(), AskPage(""))


def resume(version: int) -> Step[V, C]:
    """Begin behind what has been told already."""
    return Step(Watching(version), AskWatch(version))


def step(state: State[V], event: Input[V, C], jitter: float = 1.0) -> Step[V, C]:
    """The one transition function; an input that the state cannot have asked for is Impossible."""
    match event:
        case PageArrived():
            return _page(state, event)
        case Batch():
            return _batch(state, event)
        case Ended():
            return _ended(state, jitter)
        case Expired():
            return _expired(state, jitter)
        case Failed():
            return _failed(state, event.retry_after or 0.0, jitter)
        case Unserved():
            return Step(Empty(), Wait(UNSERVED_S * jitter), Absent())
        case Rested():
            return Step(state, _ask(state))
        case _:
            assert_never(event)


def _ask(state: State[V]) -> AskPage | AskWatch:
    match state:
        case Empty():
            return AskPage("")
        case Listing():
            return AskPage(state.token)
        case Watching():
            return AskWatch(state.version)
        case _:
            assert_never(state)


def _page(state: State[V], page: PageArrived[V]) -> Step[V, C]:
    """Buffer the page, or swap the replica if it is the last one.

    The first page's version counts: to be told a change twice is harmless, to miss one is not.
    """
    if isinstance(state, Watching):
        raise _impossible(state, page)
    listing = state if isinstance(state, Listing) else Listing("", (), page.version)
    pages = (*listing.buffered, page.objects)
    if page.token:
        more: State[V] = Listing(page.token, pages, listing.version, barren=state.barren)
        return Step(more, _ask(more))
    watching = Watching(listing.version, state.barren)
    return Step(watching, _ask(watching), Swap(tuple(chain.from_iterable(pages)), listing.version))


def _batch(state: State[V], batch: Batch[C]) -> Step[V, C]:
    if not isinstance(state, Watching):
        raise _impossible(state, batch)
    version = max(state.version, batch.changes[-1].version)
    return Step(Watching(version, heard=True), None, Apply(batch.changes))


def _ended(state: State[V], jitter: float) -> Step[V, C]:
    """Resume at once, unless the stream brought nothing: then its end counts as a failure."""
    if not isinstance(state, Watching):
        raise _impossible(state, Ended())
    if not state.heard:
        return _failed(state, 0.0, jitter)
    fresh = Watching(state.version)
    return Step(fresh, _ask(fresh))


def _expired(state: State[V], jitter: float) -> Step[V, C]:
    """List anew: at once if the stream had brought something, else after a while."""
    if isinstance(state, Watching) and state.heard:
        return start()
    return Step(Empty(barren=state.barren + 1), Wait(BACKOFF.delay(state.barren, jitter)))


def _failed(state: State[V], at_least: Seconds, jitter: float) -> Step[V, C]:
    """Ask the same again after a while; what has been buffered or told stays."""
    match state:
        case Empty() | Listing():
            failures = state.failures
            after: State[V] = replace(state, failures=failures + 1)
        case Watching():
            failures = 0 if state.heard else state.barren
            after = Watching(state.version, failures + 1)
        case _:
            assert_never(state)
    return Step(after, Wait(max(at_least, BACKOFF.delay(failures, jitter))))


def _impossible(state: State[V], event: Input[V, C]) -> Impossible:
    return Impossible(f"{type(event).__name__} while {type(state).__name__}")
