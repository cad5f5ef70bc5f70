"""Effects are values: equal, frozen, and complete in the union that the shell interprets."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields, is_dataclass
from typing import get_args

import pytest

from controller.core import effects
from controller.core.effects import Decision, DropPort, Effect, PutPort, Withdraw
from tests.core.worlds import make_row


def test_the_union_names_every_effect() -> None:
    """A new one that nobody interprets is a type error; one that is not in the union would be silent."""
    made = {
        one
        for one in vars(effects).values()
        if isinstance(one, type) and is_dataclass(one) and one.__module__ == effects.__name__
    }

    assert set(get_args(Effect)) == made - {Decision, effects.Tell}


def test_an_empty_decision_asks_for_nothing() -> None:
    """The fixed point: no effect, no status, nothing to wait for, nobody to tell."""
    assert not any(getattr(Decision(), field.name) for field in fields(Decision))


def test_effects_of_equal_content_are_equal_and_cannot_be_changed() -> None:
    """So a Decision can be compared, and remembered."""
    assert {PutPort(make_row()), PutPort(make_row()), DropPort(make_row())} == {
        PutPort(make_row()),
        DropPort(make_row()),
    }
    with pytest.raises(FrozenInstanceError):
        Withdraw("web.default").port = "other"  # type: ignore[misc]
