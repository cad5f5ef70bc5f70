"""What each answer of an OVSDB server means for those whose effects it is about: servers that say these are rare."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from controller.core.effects import NbEffect, PutSwitch
from controller.ports import Conflict, Denied, Fenced, PortError, Rejected, Unavailable
from controller.wire.commits import Commits
from controller.wire.ovsdb import Operation, Reply
from controller.wire.tables import Tables


class Line:
    """A way to a server that is a list."""

    def __init__(self) -> None:
        self.sent: list[tuple[int, list[Operation]]] = []
        self.reconnects = 0

    def send(self, tag: int, operations: list[Operation]) -> bool:
        self.sent.append((tag, operations))
        return True

    def reconnect(self) -> None:
        self.reconnects += 1


def commits(line: Line, timeout: float = 5) -> Commits:
    made = Commits(line, Tables(), lambda: 7, timeout=timeout, observe=lambda *_: None)
    made.open = True
    return made


def refused(error: str) -> list[Any]:
    return [{}, {"error": error, "details": "d"}, None]


@pytest.mark.parametrize(
    ("results", "error", "kind", "unknown", "reconnects"),
    [
        (refused("timed out"), "", Conflict, None, 0),
        (refused("constraint violation"), "", Conflict, None, 0),
        (refused("referential integrity violation"), "", Conflict, None, 0),
        (refused("syntax error"), "", Rejected, None, 0),
        (refused("domain error"), "", Rejected, None, 0),
        (refused("permission error"), "", Denied, None, 0),
        (refused("not owner"), "", Unavailable, False, 0),
        (refused("cluster error"), "", Unavailable, True, 1),
        (refused("I/O error"), "", Unavailable, True, 1),
        ([], "not allowed", Denied, None, 0),
        ([], "unknown database", Unavailable, False, 0),
        ([], "canceled", Unavailable, True, 1),
        (None, "", Unavailable, True, 0),
    ],
)
async def test_a_refusal_becomes_its_error(
    results: list[Any] | None, error: str, kind: type[PortError], *, unknown: bool | None, reconnects: int
) -> None:
    line = Line()
    wire = commits(line)
    asked = asyncio.ensure_future(wire.commit((PutSwitch("sw"),)))
    await asyncio.sleep(0.01)
    wire.settle(Reply(line.sent[0][0], results, error))
    with pytest.raises(kind) as raised:
        await asked
    assert type(raised.value) is kind
    assert getattr(raised.value, "unknown", None) == unknown
    assert line.reconnects == reconnects


async def test_callers_of_one_turn_share_a_transaction_and_at_most_two_are_on_their_way() -> None:
    line = Line()
    wire = commits(line)
    asked = [asyncio.ensure_future(wire.commit((PutSwitch(f"s{n}"),))) for n in range(350)]
    await asyncio.sleep(0.01)
    assert len(line.sent) == 2
    for turn in range(4):
        wire.settle(Reply(line.sent[turn][0], [{}]))
        wire.pump()
    assert [len(operations) for _, operations in line.sent] == [200, 200, 200, 100], "a wait and an insert each"
    assert set(await asyncio.gather(*asked)) == {7}


async def test_a_refused_group_is_halved_until_the_culprit_stands_alone() -> None:
    line = Line()
    wire = commits(line)
    effects: list[NbEffect] = [PutSwitch("bad" if n == 37 else f"s{n}") for n in range(100)]
    asked = [asyncio.ensure_future(wire.commit((effect,))) for effect in effects]
    await asyncio.sleep(0.01)
    done = 0
    while done < len(line.sent):
        tag, operations = line.sent[done]
        bad = any(operation.get("row", {}).get("name") == "bad" for operation in operations)
        wire.settle(Reply(tag, refused("constraint violation") if bad else [{}]))
        wire.pump()
        done += 1
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert [n for n, answer in enumerate(answers) if isinstance(answer, Conflict)] == [37]
    assert sum(answer == 7 for answer in answers) == 99
    assert done <= 16, "twice the logarithm"


async def test_more_effects_than_a_group_holds_still_go_together() -> None:
    line = Line()
    wire = commits(line)
    asked = asyncio.ensure_future(wire.commit(tuple(PutSwitch(f"s{n}") for n in range(250))))
    await asyncio.sleep(0.01)
    assert [len(operations) for _, operations in line.sent] == [500]
    wire.settle(Reply(line.sent[0][0], [{}]))
    assert await asked == 7


async def test_what_the_fence_refuses_is_refused_for_all_and_not_tried_again() -> None:
    line = Line()
    wire = commits(line)
    wire.fence = (("term", "3"),)
    asked = [asyncio.ensure_future(wire.commit((PutSwitch(f"s{n}"),))) for n in range(3)]
    await asyncio.sleep(0.01)
    ((tag, operations),) = line.sent
    assert [operation["op"] for operation in operations] == ["wait", *["wait", "insert"] * 3]
    wire.settle(Reply(tag, refused("timed out")))
    wire.pump()
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert [type(answer) for answer in answers] == [Fenced] * 3
    assert len(line.sent) == 1


async def test_a_question_has_its_answer_or_ends_in_doubt() -> None:
    line = Line()
    wire = commits(line, 0.05)
    answered, refusal, silence = (asyncio.ensure_future(wire.ask([{"op": "select"}])) for _ in range(3))
    await asyncio.sleep(0)
    wire.settle(Reply(line.sent[0][0], [{}, {"rows": []}]))
    wire.settle(Reply(line.sent[1][0], refused("timed out")))
    assert await answered == [{"rows": []}]
    with pytest.raises(Conflict):
        await refusal
    with pytest.raises(Unavailable) as late:
        await silence
    assert late.value.unknown
    assert line.reconnects == 1
    wire.settle(Reply(line.sent[2][0], [{}]))
    cut = asyncio.ensure_future(wire.ask([{"op": "select"}]))
    await asyncio.sleep(0)
    wire.close("connection lost")
    with pytest.raises(Unavailable) as lost:
        await cut
    assert lost.value.unknown
    with pytest.raises(Unavailable) as unsent:
        await wire.ask([{"op": "select"}])
    assert not unsent.value.unknown
