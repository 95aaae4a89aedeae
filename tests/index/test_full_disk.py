"""A disk that fills up at any point of a build is `StorageFull`, and nothing has changed."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from insignia_index import InputFile, build_atlas
from insignia_index.verify import verify_atlas
from insignia_model.errors import StorageFull

from .crasher import found
from .made import build, study, tree, write_h5ad

PROJECT = Path(__file__).parents[2]


@pytest.mark.parametrize("exists", [True, False])
def test_a_build_that_may_not_grow_its_files_changes_nothing(tmp_path: Path, exists: bool) -> None:
    new = write_h5ad(tmp_path / "B.h5ad", study("B", 400, 200, density=0.3))
    base = tmp_path / "base"
    before = found(build(tmp_path, [study("A")], atlas="base")) if exists else "nothing"
    done = subprocess.run(
        [sys.executable, "-m", "tests.index.filler", str(base), str(tmp_path / "atlas"),
         json.dumps({"build": [str(new)]})],
        cwd=PROJECT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    *failed, last = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(failed) > 10
    for report in failed:
        assert (report["answer"], report["found"]) == ("StorageFull", before), report["limit"]
        assert report["same"], report["limit"]
    assert last["answer"] == "done"
    assert last["found"] != before


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = shutil.which("mount")
    made = mount and subprocess.run(
        [mount, "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], capture_output=True
    ).returncode == 0  # fmt: skip
    if not made:
        pytest.skip("only root may mount a file system of its own")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.parametrize("left_kib", [0, 4, 40, 140, 300])
def test_a_disk_without_space_changes_nothing(tmp_path: Path, small_disk: Path, left_kib: int) -> None:
    atlas = small_disk / "atlas"
    build_atlas(atlas, [InputFile(write_h5ad(tmp_path / "A.h5ad", study("A")))])
    big = InputFile(write_h5ad(tmp_path / "B.h5ad", study("B", 600, 300, density=0.9)))
    before = tree(atlas)
    free = os.statvfs(small_disk)
    (small_disk / "other").write_bytes(bytes(max(0, free.f_bavail * free.f_frsize - left_kib * 1024)))
    with pytest.raises(StorageFull, match="nothing was published"):
        build_atlas(atlas, [big])
    assert tree(atlas) == before
    verify_atlas(atlas)
    (small_disk / "other").unlink()
    assert build_atlas(atlas, [big]).added == ["B"]
    verify_atlas(atlas)
