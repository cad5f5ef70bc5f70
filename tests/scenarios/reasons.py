"""How a story registers which text of the catalogue it reaches, and what such stories have in common."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from controller.core.catalogue import CATALOGUE, Reason
from tests.scenarios.stage import Object, Stage, condition, eventually

Story = Callable[[Stage, str, str], None]
STORIES: dict[tuple[Reason, str, str], Story] = {}


def story(reason: Reason, text: str, kind: str) -> Callable[[Story], Story]:
    """Register how a text is reached on a kind."""

    def keep(play: Story) -> Story:
        STORIES[reason, text, kind] = play
        return play

    return keep


def pattern(reason: Reason, text: str) -> re.Pattern[str]:
    """What a message of that text looks like."""
    parts = re.split(r"\{\w+\}", CATALOGUE[reason].texts[text])
    return re.compile(".*".join(map(re.escape, parts)), re.DOTALL)


def refused(stage: Stage, name: str, reason: Reason, text: str) -> Object:
    """Wait until the IP is refused with that text, as condition and as Event; it holds nothing."""
    ip = stage.refused(name, reason)
    message = condition(ip, "Ready")["message"]
    assert pattern(reason, text).fullmatch(message), message
    stage.api.told("IP", name, reason)
    return ip


def told(stage: Stage, name: str, reason: Reason, text: str, kind: str = "Pod") -> None:
    """Wait until the object hears just that in an Event."""

    def look() -> bool:
        found = stage.api.events(kind, name)
        assert any(why == reason and pattern(reason, text).fullmatch(said) for why, said in found), found
        return True

    eventually(f"{kind} {name} hears {reason} {text}", look)


def bad_ip(reason: Reason, text: str, **spec: Any) -> None:
    """Register a story: an IP with this spec is refused."""

    @story(reason, text, "IP")
    def play(stage: Stage, net: str, name: str) -> None:
        stage.reserve(name, net, **spec)
        refused(stage, f"{name}.default", reason, text)


def bad_pod(reason: Reason, text: str, **notes: str) -> None:
    """Register a story: a pod with these annotations waits."""

    @story(reason, text, "Pod")
    def play(stage: Stage, net: str, name: str) -> None:
        stage.pod(name, **({"subnet": net} | notes))
        told(stage, name, reason, text)
