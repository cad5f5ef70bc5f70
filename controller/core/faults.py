"""The two ways in which a value can be wrong: a user wrote it, or we did."""

from __future__ import annotations


class Malformed(ValueError):
    """A user's text breaks a rule; the message says which, and what to write instead.

    Raised by parsers of floor 0 and always caught where the object's condition or Event is made: it never ends
    more than the handling of that one object (contract §8).
    """


class Impossible(AssertionError):
    """An invariant of our own does not hold: a bug, never a user's mistake."""
