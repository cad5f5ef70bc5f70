"""Another version takes over in the middle of work, and gives back: nobody's address moves."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.cluster.cluster import ROOT
from tests.scenarios.crowd import Crowd, no_trouble, reached
from tests.scenarios.stage import Stage, eventually


def _git(*args: str) -> str:
    done = subprocess.run(("git", *args), cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""


@pytest.fixture
def older(tmp_path: Path) -> Path:
    """The tree before the last commit that changed the controller (or of KEEPIP_UPGRADE_FROM); its folder.

    Where the history does not go back so far, the oldest commit that there is.
    """
    last = _git("log", "-1", "--format=%H", "--", "controller")
    wanted = os.environ.get("KEEPIP_UPGRADE_FROM") or f"{last}^"
    found = _git("rev-parse", "--verify", "--quiet", f"{wanted}^{{commit}}") or _git("rev-list", "HEAD")[-40:]
    if not found:
        pytest.skip("there is no git history here, so no other version")
    print(f"the other version is {_git('log', '-1', '--format=%h %s', found)}")
    archive = tmp_path / "older.tar"
    subprocess.run(("git", "archive", f"--output={archive}", found, "controller"), cwd=ROOT, check=True)
    subprocess.run(("tar", "-C", tmp_path, "-xf", archive), check=True)
    asked = (sys.executable, "-c", "import controller; print(controller.__file__)")
    assert subprocess.check_output(asked, cwd=tmp_path, text=True).startswith(str(tmp_path))
    return tmp_path


def test_another_version_takes_over_under_load_and_gives_back(
    stage: Stage, older: Path, pool: ThreadPoolExecutor
) -> None:
    """To the older version and back while 150 of each come and go; then at rest, where the newcomer writes nothing."""
    net, space = stage.net("10.130.0.0/19"), stage.namespace()
    crowd = Crowd(stage, net, space, 150)
    work = crowd.start(pool)
    for steps, folder in ((100, older), (300, ROOT)):
        reached(crowd, work, steps)
        assert stage.keeper.stop() == 0, stage.keeper.tail()
        crowd.remember()
        stage.keeper.start(checkout=folder)
    for one in work:
        one.result()
    eventually("all is as it should be", crowd.settled, seconds=60, pause=1.5)
    crowd.remember()
    crowd.unique()
    no_trouble(stage, net, len(crowd.mine()))
    before = crowd.mine()
    for folder in (older, ROOT):
        stage.keeper.quiet(30)
        assert stage.keeper.stop() == 0, stage.keeper.tail()
        stage.keeper.start(checkout=folder)
        seen = stage.keeper.quiet(30)
        assert seen.writes == {}
        assert crowd.mine() == before
    crowd.clear(pool)
    eventually("nothing is left", crowd.empty, seconds=60, pause=0.5)
