"""FLOOR 1: state machines without I/O; `now` comes in, values go out."""
