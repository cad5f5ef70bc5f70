"""What a person sees in a terminal: bars while it runs, a line when a part is over, tables at the end."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from controller.load.results import COLUMNS, cells

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from controller.load.results import Phase, Result


_FILE_WIDTH: Final = 120


class Show:
    """A terminal, or a file: then there are lines only."""

    def __init__(self) -> None:
        self._console = Console(highlight=False, soft_wrap=True)
        if not self._console.is_terminal:
            self._console.width = _FILE_WIDTH

    def say(self, text: str) -> None:
        """A line."""
        self._console.print(text, markup=False)

    @contextmanager
    def bar(self, title: str, total: float) -> Iterator[Callable[[float], None]]:
        """A bar that is there while the block lasts; what is yielded sets how much is done."""
        columns = (TextColumn("{task.description:<24}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=self._console, transient=True, disable=not self._console.is_terminal) as bars:
            task = bars.add_task(title, total=max(1, round(total)))
            yield lambda done: bars.update(task, completed=round(done))

    def phase(self, one: Phase) -> None:
        """A part that is over."""
        self.say("  ".join(f"{name} {text}" if name != "phase" else f"{text:<22}" for name, text in _named(one)))

    def table(self, results: Sequence[Result]) -> None:
        """The parts of one run, or of several under each other."""
        for result in results:
            table = Table(title=f"{result.title} ({result.when})", title_justify="left", box=SIMPLE_HEAD)
            for at, name in enumerate(COLUMNS):
                table.add_column(name, justify="right" if at else "left", no_wrap=True)
            for one in result.phases:
                table.add_row(*cells(one))
            self._console.print(table)
            for name, text in result.facts.items():
                self.say(f"{name}: {text}")


def _named(one: Phase) -> list[tuple[str, str]]:
    return list(zip(COLUMNS, cells(one), strict=True))
