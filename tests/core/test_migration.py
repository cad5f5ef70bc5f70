"""Options of a migrating VM's port: a function of phase and nodes (bug row 59, kube-ovn-behaviour §11)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.core.decisions.migration import Launcher, merged, wanted
from controller.core.rows import MANAGED_OPTIONS

A, B, C = Launcher("node-a"), Launcher("node-b", "first"), Launcher("node-c", "second")
BOTH = {"requested-chassis": "node-a,node-b", "activation-strategy": "rarp"}
UNDER_WAY = ("", "Pending", "Scheduling", "Scheduled", "PreparingTarget", "TargetReady", "Running")


@pytest.mark.parametrize("phase", UNDER_WAY)
def test_while_it_moves_the_port_may_be_at_both_nodes(phase: str) -> None:
    assert wanted((A, B), {"first": phase}) == BOTH


@pytest.mark.parametrize(
    ("launchers", "phases", "options"),
    [
        pytest.param((), {}, {}, id="stopped: nothing is left over"),
        pytest.param((A,), {}, {}, id="one launcher: no migration"),
        pytest.param((B,), {"first": "Succeeded"}, {}, id="done, and the source is gone"),
        pytest.param((B,), {"first": "Running"}, {}, id="the source died on the way"),
        pytest.param((A, B), {"first": "Succeeded"}, {"requested-chassis": "node-b"}, id="done: at the target only"),
        pytest.param((A, B), {"first": "Failed"}, {"requested-chassis": "node-a"}, id="failed: back at the source"),
        pytest.param((A, Launcher("", "first")), {"first": "Scheduling"}, {}, id="the target has no node yet"),
        pytest.param((Launcher(""), B), {"first": "Scheduling"}, {}, id="the source's node is not known"),
        pytest.param((A, Launcher("", "first")), {"first": "Succeeded"}, {}, id="a node that is not known is not said"),
        pytest.param((A, B), {}, None, id="nobody knows that migration: what is there stays"),
        pytest.param((A, Launcher("node-b")), {"first": "Running"}, None, id="two launchers and no migration"),
        pytest.param(
            (A, B, C),
            {"first": "Succeeded", "second": "Running"},
            {"requested-chassis": "node-b,node-c", "activation-strategy": "rarp"},
            id="the target of the last one is the source of the next",
        ),
        pytest.param(
            (A, B, C),
            {"first": "Failed", "second": "Running"},
            {"requested-chassis": "node-a,node-c", "activation-strategy": "rarp"},
            id="the target of a failed one is no source",
        ),
        pytest.param(
            (B, C), {"first": "Failed", "second": "Failed"}, {"requested-chassis": "node-b"}, id="who else, then"
        ),
    ],
)
def test_what_the_options_say(
    launchers: tuple[Launcher, ...], phases: dict[str, str], options: dict[str, str] | None
) -> None:
    assert wanted(launchers, phases) == options


texts = st.sampled_from(["", "x", "node-a", "rarp"])
pairs = st.dictionaries(st.sampled_from([*MANAGED_OPTIONS, "arp_proxy", "z"]), texts).map(
    lambda d: tuple(sorted(d.items()))
)
some = st.dictionaries(st.sampled_from([*MANAGED_OPTIONS]), texts)


@given(pairs, st.none() | some)
def test_other_peoples_options_stay_and_ours_are_as_wanted(
    present: tuple[tuple[str, str], ...], ours: dict[str, str] | None
) -> None:
    result = merged(present, ours)

    assert merged(result, ours) == result
    assert [p for p in result if p[0] not in MANAGED_OPTIONS] == [p for p in present if p[0] not in MANAGED_OPTIONS]
    if ours is not None:
        assert {k: v for k, v in result if k in MANAGED_OPTIONS} == ours
    else:
        assert result == present
