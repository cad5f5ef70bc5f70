"""Who is known to have had an owner, and who is a stranger."""

from __future__ import annotations

from controller.machines.acquaintance import Acquaintance

IP, PORT, NEW = frozenset({"ip"}), frozenset({"ip", "port"}), frozenset({"new"})


def test_a_stranger_is_one_until_it_was_met() -> None:
    """And what takes its name later is another one."""
    them = Acquaintance()

    assert them.stranger("web", IP)
    them.meet("web", PORT)
    assert not them.stranger("web", IP)
    assert not them.stranger("web", PORT)
    assert them.stranger("web", NEW)
    assert them.stranger("api", IP)


def test_nothing_is_no_stranger_and_is_not_met() -> None:
    """A name without objects."""
    them = Acquaintance()
    them.meet("web", frozenset())

    assert not them.stranger("web", frozenset())
    assert len(them) == 0


def test_whom_a_sweep_has_cleared_is_no_stranger_as_long_as_it_stays_what_it_was() -> None:
    """Half of it may be gone already; anything new is not cleared. The next sweep says it all anew."""
    them = Acquaintance()
    them.clear({"web": PORT})

    assert not them.stranger("web", PORT)
    assert not them.stranger("web", IP)
    assert them.stranger("web", IP | NEW)
    assert not them.knows("web", IP)
    them.clear({})
    assert them.stranger("web", IP)


def test_names_that_are_gone_are_forgotten() -> None:
    """They take no room for ever."""
    them = Acquaintance()
    them.meet("web", IP)
    them.meet("api", PORT)
    them.forget(lambda port: port == "api")

    assert len(them) == 1
    assert them.stranger("web", IP)
    assert not them.stranger("api", PORT)
