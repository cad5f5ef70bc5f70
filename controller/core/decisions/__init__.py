"""One module per kind of key: a View of all that may be known, and decide(view, now) -> Decision.

The eight laws of decide() are in house.md and tested in tests/core: total, pure, level, fixed point, prefix-safe,
guarded, convergent, and time only as `now` and `requeue_after`.
"""
