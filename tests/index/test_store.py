"""The catalog's file among several users."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from insignia_index import Atlas, InputFile, build_atlas, remove_studies
from insignia_index.build.errors import UnreadableInput
from insignia_index.catalog.store import Store, _Environment
from insignia_index.verify import verify_atlas
from insignia_model.errors import AtlasCorrupt, InvalidArgument

from .made import build, study, tree, write_h5ad

ROOT = os.geteuid() == 0
READER = """
import sys
from insignia_index import Atlas
atlas = Atlas.open(sys.argv[1], threads=1)
print("open", flush=True)
sys.stdin.read()
"""


@contextmanager
def as_nobody() -> Iterator[None]:
    os.seteuid(65_534)
    try:
        yield
    finally:
        os.seteuid(0)


def used_bytes(path: Path) -> int:
    store = Store(path)
    try:
        return store._environment._used_bytes()
    finally:
        store.close()


def killed_reader(path: Path) -> int:
    """Process number of one that had the atlas open when it was killed."""
    with subprocess.Popen(
        [sys.executable, "-c", READER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as reader:
        assert reader.stdout is not None
        assert reader.stdout.readline() == b"open\n"
        reader.send_signal(signal.SIGKILL)
    return reader.pid


def test_whoever_opens_an_atlas_clears_the_places_of_killed_readers(tmp_path: Path) -> None:
    path = build(tmp_path, [study("A")])
    killed = [killed_reader(path) for _ in range(3)]
    with Atlas.open(path) as atlas:
        held = atlas._store._environment.handle.readers().split()
    assert not [pid for pid in killed if str(pid) in held]


def test_too_many_readers_are_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = build(tmp_path, [study("A")])
    monkeypatch.setattr("insignia_index.catalog.store._MOST_READERS", 1)
    (path / "meta.lmdb-lock").unlink()
    with Atlas.open(path):
        done = subprocess.run(
            [sys.executable, "-c", READER, str(path)], capture_output=True, text=True, timeout=60
        )
    assert "TooManyReaders" in done.stderr
    assert "restore" not in done.stderr


def test_a_relative_path_means_what_it_meant_when_the_atlas_was_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(tmp_path, [study("A")])
    monkeypatch.chdir(tmp_path)
    with Atlas.open("atlas") as atlas:
        monkeypatch.chdir("/")
        build_atlas(tmp_path / "atlas", [InputFile(write_h5ad(tmp_path / "B.h5ad", study("B")))])
        assert atlas.refresh()
        assert atlas.search(["G1"], null=True).n_cells == 80


def test_a_reader_that_was_killed_does_not_make_the_catalog_grow(tmp_path: Path) -> None:
    path = build(tmp_path, [study("A", 300), study("B", 10)])
    killed_reader(path)
    sizes = []
    for i in range(12):
        build_atlas(path, [InputFile(write_h5ad(tmp_path / "B.h5ad", study("B", 300, seed=i)))], replace=True)
        sizes.append(used_bytes(path))
    assert sizes[-1] <= sizes[5] + 3 * 4096


def test_the_file_is_open_once_and_closed_with_its_last_user(tmp_path: Path) -> None:
    path = build(tmp_path, [study("A")])
    n_before = len(_Environment._opened)  # other tests may have an atlas open

    def use(i: int) -> int:
        with Atlas.open(path, threads=1) as atlas:
            assert len(_Environment._opened) == n_before + 1
            return atlas.search(["G1"], k=i).n_cells

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(use, range(60))) == {40}
    assert len(_Environment._opened) == n_before


def test_an_atlas_that_cannot_be_opened_is_not_left_open(tmp_path: Path) -> None:
    path = build(tmp_path, [study("A")])
    shutil.rmtree(path / "shards" / "A@1")
    n_before = len(_Environment._opened)
    for action in (Atlas.open, verify_atlas):
        with pytest.raises(AtlasCorrupt):
            action(path)
    assert len(_Environment._opened) == n_before


@pytest.mark.skipif(not ROOT, reason="only root may become another user")
def test_who_may_not_write_may_read(tmp_path: Path) -> None:
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == os.getuid() and folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o055)
    path = build(tmp_path, [study("A")])
    before = tree(path)
    new = InputFile(write_h5ad(tmp_path / "B.h5ad", study("B")))
    hidden = InputFile(write_h5ad(tmp_path / "C.h5ad", study("C")))
    hidden.path.chmod(0)
    with as_nobody():
        with Atlas.open(path) as atlas:
            assert atlas.search(["G1"]).n_cells == 40
        verify_atlas(path)
        for action in (lambda: build_atlas(path, [new]), lambda: remove_studies(path, ["A"])):
            with pytest.raises(InvalidArgument, match="cannot be written"):
                action()
        with pytest.raises(InvalidArgument, match="cannot be written"):
            build_atlas(tmp_path / "other", [new])
    assert tree(path) == before
    path.chmod(0o777)
    with as_nobody(), pytest.raises((InvalidArgument, UnreadableInput)):
        build_atlas(tmp_path / "atlas", [hidden])


@pytest.mark.skipif(not ROOT, reason="only root may mount a file system")
def test_an_atlas_on_a_read_only_file_system_can_be_read(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(disk)], capture_output=True).returncode:
        pytest.skip("mounting is not permitted here")
    try:
        new = InputFile(write_h5ad(tmp_path / "A.h5ad", study("A")))
        build_atlas(disk / "atlas", [new])
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        with Atlas.open(disk / "atlas") as atlas:
            assert atlas.search(["G1"]).n_cells == 40
            assert atlas.refresh() is False
        verify_atlas(disk / "atlas")
        with pytest.raises(InvalidArgument, match="Read-only"):
            build_atlas(disk / "atlas", [new])
    finally:
        subprocess.run(["umount", str(disk)], check=True)
