"""A writer that is killed at any point: the old revision answers or the new one, and the next build works."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from .crasher import found
from .made import build, study, write_h5ad

PROJECT = Path(__file__).parents[2]
BEFORE = [study(name, 12, 12) for name in "ABC"]
AFTER = [study("B", 7, 14, seed=1), study("D", 9, 12)]

ACTIONS = {
    "first_build": (False, {"build": ["B.h5ad", "D.h5ad"]}),
    "replace_and_add": (True, {"build": ["B.h5ad", "D.h5ad"]}),
    "remove": (True, {"remove": ["A", "C"]}),
}


def killed(folder: Path, base: Path, action: dict[str, list[str]]) -> list[dict[str, Any]]:
    """What is found after each kill; the last of the steps is not killed."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.index.crasher", str(base), str(folder / "atlas"), json.dumps(action)],
        cwd=PROJECT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("name", ACTIONS)
def test_a_writer_killed_at_any_step_leaves_one_of_two_revisions(tmp_path: Path, name: str) -> None:
    exists, action = ACTIONS[name]
    for made in AFTER:
        write_h5ad(tmp_path / f"{made.name}.h5ad", made)
    action = {
        key: [str(tmp_path / v) if key == "build" else v for v in values] for key, values in action.items()
    }
    base = tmp_path / "base"
    if exists:
        base = build(tmp_path, BEFORE, atlas="base")
    reports = killed(tmp_path, base, action)
    copy = tmp_path / "copy"
    old = "nothing"
    if exists:
        shutil.copytree(base, copy)
        old = found(copy)

    steps, timed = reports[:-10], reports[-10:]
    new = steps[-1]["found"]
    assert steps[-1]["ended"]
    assert new != old
    assert len(steps) > 20
    states = [report["found"] for report in steps]
    published = states.index(new)
    assert states == [old] * published + [new] * (len(states) - published)
    assert 0 < published < len(states) - 1
    for report in reports:
        assert report["found"] in (old, new)
        assert report["then"] == new
        assert report["left"] == []
    assert {report["found"] for report in timed} <= {old, new}
