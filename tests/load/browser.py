"""A page as a headless Chromium shows it: what is drawn and how large, what the console says, a picture."""

import json
import re
import subprocess
import tempfile
from dataclasses import dataclass
from html import unescape
from pathlib import Path
from typing import Any

from tests.cluster.binaries import browser

_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--enable-logging=stderr",
    "--window-size=1440,1700",
)
# What the browser has drawn, as it measures it itself: only a script in the page can ask.
_MEASURE = """<script>
const found = [...document.querySelectorAll("figure")].map(figure => ({
  title: figure.querySelector("b").textContent,
  marks: [...figure.querySelectorAll("path.line")].map(path => {
    const box = path.getBoundingClientRect(), style = getComputedStyle(path);
    return {points: path.getAttribute("d").match(/[ML]/g).length, length: path.getTotalLength(),
            width: box.width, stroke: style.stroke, thick: parseFloat(style.strokeWidth)};
  }),
  letters: [...figure.querySelectorAll("svg text")].map(text => text.getBoundingClientRect().width),
}));
const told = document.createElement("pre");
told.id = "measured";
told.textContent = JSON.stringify(found);
document.body.append(told);
</script>"""


@dataclass(frozen=True)
class Shown:
    figures: list[dict[str, Any]]
    console: list[str]


def show(page: Path, *, script: str = "") -> Shown:
    """Open a copy of the page that measures itself; `script` is run in it, too."""
    with tempfile.TemporaryDirectory(prefix="keepip-page-") as folder:
        copy = Path(folder) / "page.html"
        copy.write_text(page.read_text().replace("</body>", f"{script}{_MEASURE}</body>"))
        done = _run(folder, "--dump-dom", copy.as_uri())
    told = re.search(r'<pre id="measured">(.*?)</pre>', done.stdout, re.DOTALL)
    assert told, done.stdout[-500:] + done.stderr[-2000:]
    return Shown(json.loads(unescape(told[1])), [line for line in done.stderr.splitlines() if "CONSOLE" in line])


def photograph(page: Path, picture: Path) -> list[str]:
    """Write a PNG of it as it is; answers what the console said."""
    with tempfile.TemporaryDirectory(prefix="keepip-page-") as folder:
        done = _run(folder, f"--screenshot={picture}", page.as_uri())
    return [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def _run(folder: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    chromium = browser()
    return subprocess.run(
        (chromium.program, *_FLAGS, f"--user-data-dir={folder}/profile", *arguments),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
        env={"PATH": "/usr/bin:/bin", "HOME": folder, **chromium.environment},
    )
