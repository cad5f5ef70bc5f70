"""The README's generated tables: reasons, settings, metrics. `python -m tests.readme_tables` writes them anew."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from controller.core.catalogue import CATALOGUE
from controller.process import metrics, settings
from controller.reconcilers.controller import Controller
from controller.wire.northbound import NorthboundWire
from tests.sim.loop import run
from tests.sim.world import SimWorld

README: Final = Path(__file__).parents[1] / "README.md"


def page_of(controller: Controller) -> metrics.Page:
    """What the process would show, had it only this controller and no server."""
    return metrics.Page(controller, metrics.Wires(), NorthboundWire("unix:/nowhere"))


def reasons() -> list[str]:
    """One row a reason."""
    return [f"| `{reason}` | {', '.join(entry.on)} | {entry.when} |" for reason, entry in CATALOGUE.items()]


def options() -> list[str]:
    """One row a setting."""
    return [
        f"| `--{one.flag}` | `{one.variable}` | `{one.default}` | {one.help} |".replace("| `` |", "| |")
        for one in settings.OPTIONS
    ]


def families() -> list[str]:
    """One row a metric family, of a controller that has not begun yet."""

    async def shown() -> str:
        return await page_of(Controller(SimWorld(1).world)).text()

    found = re.findall(r"(?m)^# HELP (\S+) (.*)$", run(shown()))
    return [f"| `{name}` | {text} |" for name, text in sorted(found) if not name.startswith("process_")]


TABLES: Final = {"reasons": reasons, "settings": options, "metrics": families}


def rewritten(text: str) -> str:
    """The same text with the tables as they should be."""
    for name, rows in TABLES.items():
        section = re.compile(rf"(?s)(<!-- {name} -->\n).*?(<!-- /{name} -->)")
        if section.search(text) is None:
            raise AssertionError(f"README.md has no section {name}")
        table = "\n".join([*HEADS[name], *rows()])
        text = section.sub(lambda found, table=table: f"{found[1]}{table}\n{found[2]}", text)  # type: ignore[misc]
    return text


HEADS: Final = {
    "reasons": ("| reason | on | when |", "|---|---|---|"),
    "settings": ("| flag | environment | default | what |", "|---|---|---|---|"),
    "metrics": ("| metric | what |", "|---|---|"),
}


if __name__ == "__main__":
    README.write_text(rewritten(README.read_text()))
