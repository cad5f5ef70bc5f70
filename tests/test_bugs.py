"""Every row of the bug catalogue is answered, by tests that exist."""

from __future__ import annotations

import ast
from functools import lru_cache
from pathlib import Path

import pytest

from tests.bugs import ROWS

ROOT = Path(__file__).parent.parent
NUMBERS = [*map(str, range(1, 51)), "50a", *map(str, range(51, 68))]


@lru_cache
def named(path: str) -> frozenset[str]:
    """The functions of a file of tests."""
    tree = ast.parse((ROOT / path).read_text())
    return frozenset(n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef))


def test_every_row_is_in_the_table_once() -> None:
    """68 rows, in their order."""
    assert list(ROWS) == NUMBERS
    assert len(ROWS) == 68


@pytest.mark.parametrize("row", ROWS)
def test_what_answers_a_row_exists(row: str) -> None:
    """Tests by file and name; or a sentence."""
    assert ROWS[row], "no test and no reason"
    for answer in ROWS[row]:
        path, _, name = answer.partition("::")
        if not path.startswith("tests/"):
            assert len(answer.split()) > 7, "a reason is a sentence"
            continue
        assert (ROOT / path).is_file(), path
        assert not name or name in named(path), answer
