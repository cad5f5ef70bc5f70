"""A new leader's watches are brought up to a version of its own term; where that cannot be done, it lists."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from controller.core.objects import Kind
from controller.machines import watch
from controller.reconcilers.reflect import catch_up
from tests.sim.stories import in_a_world
from tests.sim.world import SimWorld

if TYPE_CHECKING:
    from controller.reconcilers.reflect import Begin, News


class Heir:
    """A process whose replica of the IPs is as it was when this was made."""

    def __init__(self, universe: SimWorld) -> None:
        self.universe, self.since = universe, universe.store.version
        self.told: list[int] = []
        self.caught_at: list[int] = []
        self.asked: list[str] = []
        universe.traffic.witness.append(lambda request: self.asked.append(request.verb))

    async def catches_up(self, *, then_cut: bool = False) -> Begin:
        def tell(news: News) -> None:
            assert isinstance(news, watch.Apply)
            self.told += [change.version for change in news.changes]

        def caught() -> None:
            self.caught_at.append(self.told[-1] if self.told else self.since)
            self.universe.faults.cut_watch = float(then_cut)

        world = self.universe.world
        return await catch_up(world.kube, world.clock, Kind.IP, self.since, tell, caught)


def make(universe: SimWorld, kind: Kind, name: str) -> int:
    return universe.store.create(kind, "", name, {"spec": {}}, "somebody")


def test_a_quiet_kind_is_caught_up_with_by_a_bookmark() -> None:
    """Its last event says nothing of whether another one is on its way."""

    async def story(universe: SimWorld) -> None:
        heir = Heir(universe)
        latest = make(universe, Kind.NODE, "n")
        step = await heir.catches_up()

        assert heir.told
        assert min(heir.caught_at) >= latest
        assert heir.asked == ["latest", "watch"]
        assert step.next == watch.AskWatch(heir.told[-1])

    in_a_world(story)


def test_what_came_meanwhile_is_told_before_anything_counts_as_caught_up() -> None:
    async def story(universe: SimWorld) -> None:
        heir = Heir(universe)
        versions = [make(universe, Kind.IP, f"{n}") for n in range(5)]
        await heir.catches_up()

        assert heir.told[: len(versions)] == versions
        assert heir.caught_at[0] == versions[-1]

    in_a_world(story)


def test_what_is_up_to_date_is_asked_for_its_version_only() -> None:
    async def story(universe: SimWorld) -> None:
        heir = Heir(universe)
        step = await heir.catches_up()

        assert heir.asked == ["latest"]
        assert heir.caught_at == [heir.since]
        assert step.next == watch.AskWatch(heir.since)

    in_a_world(story)


def test_a_server_whose_bookmarks_are_old_is_asked_for_a_list() -> None:
    """They come from a cache that may be behind etcd, from which an older one answers every consistent list."""

    async def story(universe: SimWorld) -> None:
        universe.faults.old_bookmark = 1.0
        heir = Heir(universe)
        make(universe, Kind.NODE, "n")
        step: Any = await heir.catches_up()

        assert heir.asked == ["latest", "watch", "watch"]
        assert set(heir.told) == {heir.since}
        assert not heir.caught_at
        assert step == watch.start()

    in_a_world(story)


@pytest.mark.parametrize("trouble", ["away", "compacted"])
def test_trouble_before_it_has_caught_up_leads_to_a_list_after_a_pause(trouble: str) -> None:
    async def story(universe: SimWorld) -> None:
        heir = Heir(universe)
        make(universe, Kind.IP, "i")
        if trouble == "away":
            universe.faults.cut_watch = 1.0
        else:
            universe.store.compact()
        step: Any = await heir.catches_up()

        assert not heir.caught_at
        assert isinstance(step.state, watch.Empty)
        assert isinstance(step.next, watch.Wait)

    in_a_world(story)


def test_trouble_after_it_has_caught_up_is_that_of_any_watch() -> None:
    async def story(universe: SimWorld) -> None:
        heir = Heir(universe)
        made = make(universe, Kind.IP, "i")
        step = await heir.catches_up(then_cut=True)

        assert step.state == watch.Watching(made, barren=1)
        assert isinstance(step.next, watch.Wait)

    in_a_world(story)
