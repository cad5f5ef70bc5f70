"""List and watch as a table of transitions."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.core.faults import Impossible
from controller.machines.watch import (
    Absent,
    Apply,
    AskPage,
    AskWatch,
    Batch,
    Empty,
    Ended,
    Expired,
    Failed,
    Input,
    Listing,
    PageArrived,
    Rested,
    State,
    Step,
    Swap,
    Unserved,
    Wait,
    Watching,
    resume,
    start,
    step,
)


@dataclass(frozen=True, slots=True)
class Event:
    """A change, or a bookmark if it has no name."""

    version: int
    name: str = ""


St: TypeAlias = State[str]
In: TypeAlias = Input[str, Event]
Out: TypeAlias = Step[str, Event]

E5, E6 = Event(5, "e5"), Event(6)
HALF = Listing("more", (("a",),), 3, failures=2, barren=1)

TABLE: list[tuple[str, St, In, Out]] = [
    ("a single page is the list", Empty(4, 1), PageArrived(("a", "b"), 3, ""),
        Step(Watching(3, 1), AskWatch(3), Swap(("a", "b"), 3))),
    ("a first page is buffered", Empty(4, 1), PageArrived(("a",), 3, "more"),
        Step(Listing("more", (("a",),), 3, 0, 1), AskPage("more"))),
    ("a middle page is buffered", HALF, PageArrived(("b",), 4, "last"),
        Step(Listing("last", (("a",), ("b",)), 3, 0, 1), AskPage("last"))),
    ("the last page swaps, at the version of the first", HALF, PageArrived(("b", "c"), 4, ""),
        Step(Watching(3, 1), AskWatch(3), Swap(("a", "b", "c"), 3))),
    ("a batch is applied and read on", Watching(3, 2), Batch((E5,)),
        Step(Watching(5, 0, heard=True), None, Apply((E5,)))),
    ("a bookmark advances the version", Watching(5, 0), Batch((E6,)),
        Step(Watching(6, 0, heard=True), None, Apply((E6,)))),
    ("a version never goes back", Watching(9), Batch((E5,)),
        Step(Watching(9, 0, heard=True), None, Apply((E5,)))),
    ("a stream that brought something is resumed at once", Watching(6, 0, heard=True), Ended(),
        Step(Watching(6), AskWatch(6))),
    ("a stream that brought nothing is a failure", Watching(6, 0), Ended(),
        Step(Watching(6, 1), Wait(0.1))),
    ("and the next one a longer pause", Watching(6, 1), Ended(),
        Step(Watching(6, 2), Wait(0.2))),
    ("a broken stream is resumed after a pause", Watching(6, 0, heard=True), Failed(),
        Step(Watching(6, 1), Wait(0.1))),
    ("a stream that cannot be opened too", Watching(6, 3), Failed(),
        Step(Watching(6, 4), Wait(0.8))),
    ("the server's own wish is obeyed", Watching(6, 0), Failed(7.0),
        Step(Watching(6, 1), Wait(7.0))),
    ("unless our pause is longer", Watching(6, 6), Failed(1.0),
        Step(Watching(6, 7), Wait(6.4))),
    ("an expired watch relists at once", Watching(6, 0, heard=True), Expired(),
        Step(Empty(), AskPage(""))),
    ("but not in a loop", Watching(6, 2), Expired(),
        Step(Empty(barren=3), Wait(0.4))),
    ("an expired token restarts the list", HALF, Expired(),
        Step(Empty(barren=2), Wait(0.2))),
    ("even a first page may expire", Empty(), Expired(),
        Step(Empty(barren=1), Wait(0.1))),
    ("a failed first page is asked again", Empty(1, 5), Failed(),
        Step(Empty(2, 5), Wait(0.2))),
    ("a failed page keeps what is buffered", HALF, Failed(),
        Step(Listing("more", (("a",),), 3, 3, 1), Wait(0.4))),
    ("a kind that is not served is asked for again", Empty(2, 5), Unserved(),
        Step(Empty(), Wait(20.0), Absent())),
    ("a list that is cut by its CRD's end begins again", HALF, Unserved(),
        Step(Empty(), Wait(20.0), Absent())),
    ("a watch whose CRD went too", Watching(6, 2), Unserved(),
        Step(Empty(), Wait(20.0), Absent())),
    ("rested, a list begins", Empty(2, 5), Rested(), Step(Empty(2, 5), AskPage(""))),
    ("rested, a list goes on", HALF, Rested(), Step(HALF, AskPage("more"))),
    ("rested, a watch resumes", Watching(6, 2), Rested(), Step(Watching(6, 2), AskWatch(6))),
]  # fmt: skip


@pytest.mark.parametrize(("state", "event", "expected"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_transition(state: St, event: In, expected: Out) -> None:
    """The machine is this table (pauses are those of jitter 2)."""
    assert step(state, event, jitter=2.0) == expected


def test_it_starts_with_a_list() -> None:
    """Nothing is known."""
    begun: Out = start()

    assert begun == Step(Empty(), AskPage(""))


def test_or_where_another_one_has_ended() -> None:
    """All until then has been told."""
    begun: Out = resume(7)

    assert begun == Step(Watching(7), AskWatch(7))


@pytest.mark.parametrize(
    ("state", "event"),
    [
        (Watching(3), PageArrived(("a",), 3, "")),
        (Empty(), Batch((E5,))),
        (HALF, Batch((E5,))),
        (Empty(), Ended()),
        (HALF, Ended()),
    ],
)
def test_an_answer_to_what_was_not_asked_is_a_bug(state: St, event: In) -> None:
    """The driver mixed something up: no state is made up for it."""
    with pytest.raises(Impossible, match="while"):
        step(state, event)


def test_pauses_double_to_ten_seconds() -> None:
    """A server that is away is asked every ten seconds."""
    state: St = Empty()
    pauses = []
    for _ in range(12):
        done: Out = step(state, Failed())
        assert isinstance(done.next, Wait)
        pauses.append(done.next.seconds)
        state = done.state

    assert pauses[:4] == [0.05, 0.1, 0.2, 0.4]
    assert pauses[-4:] == [10.0] * 4


def _cycle(answers: list[In], rounds: int) -> tuple[float, int]:
    """Answer each request with the next of `answers`, round and round; return seconds waited and requests made."""
    done: Out = start()
    waited, asked = 0.0, 0
    while asked < rounds:
        match done.next:
            case Wait(seconds):
                waited += seconds
                done = step(done.state, Rested())
            case AskPage() | AskWatch():
                done = step(done.state, answers[asked % len(answers)])
                asked += 1
            case None:
                raise AssertionError
    return waited, asked


@pytest.mark.parametrize(
    "answers",
    [
        [PageArrived((), 1, ""), Expired()],
        [PageArrived((), 1, "more"), Expired()],
        [Expired()],
        [Failed()],
    ],
    ids=["watches expire at once", "tokens expire at once", "everything expires", "everything fails"],
)
def test_no_server_can_make_us_ask_in_a_loop(answers: list[In]) -> None:
    """A hundred requests take minutes, whatever is answered, as long as nothing is ever brought."""
    waited, asked = _cycle(answers, 100)

    assert waited / asked > 4.0


def test_streams_that_end_at_once_are_not_reopened_in_a_loop() -> None:
    """kubernetes_asyncio's client asked 735 times a second here."""
    done: Out = step(start().state, PageArrived((), 1, ""))
    waited = 0.0
    for _ in range(100):
        ended: Out = step(done.state, Ended())
        assert isinstance(ended.next, Wait)
        waited += ended.next.seconds
        done = step(ended.state, Rested())

    assert waited > 900.0


@dataclass
class Server:
    """An API server with a history, pages of two, and a window that moves on."""

    history: list[Event] = field(default_factory=list)
    compacted: int = 0

    @property
    def version(self) -> int:
        return len(self.history)

    def at(self, version: int) -> dict[str, int]:
        names: dict[str, int] = {}
        for event in self.history[:version]:
            name = event.name.lstrip("-")
            if event.name.startswith("-"):
                names.pop(name, None)
            else:
                names[name] = event.version
        return names

    def page(self, token: str) -> In:
        at, _, skip = token.partition(":") if token else (str(self.version), "", "0")
        if token and int(at) < self.compacted:
            return Expired()
        objects = [f"{name}@{version}" for name, version in sorted(self.at(int(at)).items())]
        rest = int(skip) + 2
        return PageArrived(tuple(objects[int(skip) : rest]), int(at), f"{at}:{rest}" if rest < len(objects) else "")


WORLD = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.sampled_from(["a", "b", "c", "d", "-a", "-b", "-c"])),
        st.tuples(st.sampled_from(["go", "go", "go", "fail", "end", "compact"]), st.just("")),
    ),
    max_size=60,
)


class Follower:
    """Does what the machine says and keeps what it tells."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.step: Out = start()
        self.shown: dict[str, int] | None = None

    def turn(self, trouble: str = "go") -> None:
        """Answer one request, truthfully or with trouble."""
        match self.step.next:
            case Wait():
                answer: In = Rested()
            case _ if trouble == "fail":
                answer = Failed()
            case AskPage(token):
                answer = self.server.page(token)
            case _:
                answer = self._stream(trouble)
        self.step = step(self.step.state, answer)
        self._hear()

    def _stream(self, trouble: str) -> In:
        assert isinstance(self.step.state, Watching)
        version = self.step.state.version
        if version < self.server.compacted:
            return Expired()
        news = self.server.history[version : version + 2]
        return Batch(tuple(news)) if news and trouble != "end" else Ended()

    def _hear(self) -> None:
        match self.step.tell:
            case Swap(objects):
                self.shown = {name: int(version) for name, version in (o.split("@") for o in objects)}
            case Apply(changes):
                assert self.shown is not None
                for change in changes:
                    self.shown.pop(change.name.lstrip("-"), None)
                    if not change.name.startswith("-"):
                        self.shown[change.name] = change.version
            case Absent() | None:
                pass
        if isinstance(self.step.state, Watching):
            assert self.shown == self.server.at(self.step.state.version)


@given(WORLD)
def test_what_is_told_is_always_some_past_of_the_server_and_in_the_end_its_present(
    events: list[tuple[str, str]],
) -> None:
    """Whatever fails, ends and expires in between."""
    server = Server()
    follower = Follower(server)
    for kind, name in events:
        match kind:
            case "write":
                server.history.append(Event(server.version + 1, name))
            case "compact":
                server.compacted = server.version
            case _:
                follower.turn(kind)
    for _ in range(server.version + 12):
        follower.turn()

    assert follower.shown == server.at(server.version)
