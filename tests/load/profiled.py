"""The controller, its CPU time sampled: `python -m tests.load.bench --profile FOLDER` runs it instead of the bare one.

A timer that counts CPU time, not the clock, interrupts it hundreds of times per CPU second; a file per case then tells
which functions were running, and on whose behalf. What the machine does meanwhile does not show.
"""

import os
import signal
import sys
from collections import Counter
from pathlib import Path
from types import FrameType

_EVERY_S = 0.001
_LINES = 70


class Sampler:
    def __init__(self) -> None:
        self.stacks: Counter[tuple[str, ...]] = Counter()
        self.on = True

    def take(self, _number: int, frame: FrameType | None) -> None:
        stack = []
        while frame is not None:
            code = frame.f_code
            stack.append(f"{_short(code.co_filename)}:{code.co_qualname}")
            frame = frame.f_back
        self.stacks[tuple(stack)] += 1

    def text(self) -> str:
        """Inclusive and own share of each function, and the commonest chains of our own functions."""
        own: Counter[str] = Counter()
        whole: Counter[str] = Counter()
        ours: Counter[str] = Counter()
        for stack, count in self.stacks.items():
            own[stack[0]] += count
            for name in set(stack):
                whole[name] += count
            ours[" < ".join([name for name in stack if name.startswith("controller/")][:4])] += count
        total = max(1, sum(self.stacks.values()))
        parts = [f"{total} samples"]
        for title, counts in (("with what it calls", whole), ("itself", own), ("our chain", ours)):
            parts.append(f"\n{title}")
            parts += [f"{n / total:6.1%} {n:6}  {name}" for name, n in counts.most_common(_LINES)]
        return "\n".join(parts) + "\n"


def _short(path: str) -> str:
    for mark in ("/site-packages/", "/lib/python3", "/controller/"):
        _, found, tail = path.rpartition(mark)
        if found:
            return (mark.strip("/") + "/" if mark == "/controller/" else "") + tail
    return path


def main() -> None:
    """`profiled FILE ARGUMENTS`; SIGUSR2 forgets what was sampled until then, the end writes the file."""
    target = Path(sys.argv[1])
    sys.argv[1:] = sys.argv[2:]
    sampler = Sampler()
    signal.signal(signal.SIGPROF, sampler.take)
    signal.signal(signal.SIGUSR2, lambda *_: sampler.stacks.clear())
    signal.setitimer(signal.ITIMER_PROF, _EVERY_S, _EVERY_S)
    from controller.process.main import cli  # noqa: PLC0415 - after the timer: the import is part of the start

    try:
        cli()
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        fresh = target.with_suffix(f".{os.getpid()}")
        fresh.write_text(sampler.text())
        fresh.replace(target)


if __name__ == "__main__":
    main()
