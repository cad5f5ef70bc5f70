"""The one table of everything keepip says."""

from __future__ import annotations

import re
from string import Formatter

import pytest

from controller.core.catalogue import CATALOGUE, Message, Reason, say

TEXTS = [(reason, name) for reason, entry in CATALOGUE.items() for name in entry.texts]


def facts_of(reason: Reason, name: str) -> dict[str, str]:
    """A value for each fact that the text names."""
    fields = {field for _, field, _, _ in Formatter().parse(CATALOGUE[reason].texts[name]) if field is not None}
    return {field: f"<{field}>" for field in fields}


def test_every_reason_has_an_entry() -> None:
    """And every entry a reason: the table is whole."""
    assert set(CATALOGUE) == set(Reason)


@pytest.mark.parametrize("reason", Reason)
def test_a_reason_is_a_camel_case_word(reason: Reason) -> None:
    """Kubernetes' rule for reasons of conditions and Events."""
    assert re.fullmatch(r"[A-Z][A-Za-z0-9]*", reason)


def test_reasons_are_unique() -> None:
    """Also to those who do not look at letter case; an Enum would silently make a second one an alias."""
    assert len({reason.lower() for reason in Reason.__members__.values()}) == len(Reason.__members__)


@pytest.mark.parametrize("reason", Reason)
def test_an_entry_says_where_and_when(reason: Reason) -> None:
    """The README's table is made from it."""
    entry = CATALOGUE[reason]

    assert entry.on
    assert set(entry.on) <= {"IP", "Pod", "Subnet", "IPPool", "Namespace"}
    assert entry.event in {"Normal", "Warning"}
    assert entry.when
    assert not entry.when.endswith(".")
    assert entry.texts


@pytest.mark.parametrize(("reason", "name"), TEXTS)
def test_a_text_is_a_sentence_with_every_fact_in_it(reason: Reason, name: str) -> None:
    """Nothing of the format is left over, and it has the severity of its entry."""
    facts = facts_of(reason, name)
    message = say(reason, name, **facts)

    assert message.reason is reason
    assert message.severity == CATALOGUE[reason].event
    assert all(value in message.text for value in facts.values())
    assert "{" not in message.text
    assert "\n" not in message.text
    assert 0 < len(message.text) < 1024 - len(facts) * 64  # an Event's message ends at 1024 bytes


@pytest.mark.parametrize(("reason", "name"), [text for text in TEXTS if facts_of(*text)])
def test_a_fact_that_is_missing_is_a_bug(reason: Reason, name: str) -> None:
    """It raises at once, in any test that says it."""
    facts = facts_of(reason, name)
    facts.popitem()

    with pytest.raises(KeyError):
        say(reason, name, **facts)


def test_a_text_that_does_not_exist_is_a_bug() -> None:
    """As a missing fact."""
    with pytest.raises(KeyError):
        say(Reason.RESERVED, "no such text")


def test_facts_may_have_any_name_and_any_value() -> None:
    """Names of say()'s own arguments too, and braces in values stay as they are."""
    message = say(Reason.ACQUIRE_ADDRESS_FAILED, "stage", reason="SubnetExhausted", text="{braces}")

    assert message == Message(Reason.ACQUIRE_ADDRESS_FAILED, "stage=acquireAddress reason=SubnetExhausted: {braces}")
