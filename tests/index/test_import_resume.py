"""An import that was interrupted goes on where it stopped, and gives what it would have given."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from insignia_index.build.build import BuildReport
from insignia_index.build.signature.array import Batch, SignatureArray
from insignia_index.build.signature.importer import SignatureFolders, import_signature
from insignia_index.build.signature.journal import Journal

from .crasher import found
from .published import made_cells, made_values, write_folder, write_genes

PROJECT = Path(__file__).parents[2]
N_GENES = 12


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """Two cell types of 20 cells, three studies, 12 genes."""
    rng = np.random.default_rng(0)
    for name in "fg":
        studies = rng.choice(["A", "B", "C"], 20)
        cells = made_cells(studies, sample=[f"{study}-s{i % 2}" for i, study in enumerate(studies)])
        write_folder(tmp_path / "in" / name, made_values(rng, 20, N_GENES), cells)
    write_genes(tmp_path / "in", [f"G{i}" for i in range(N_GENES)])
    return tmp_path / "in"


@pytest.fixture(autouse=True)
def _small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("insignia_index.build.signature.array.READ_ENTRIES", 40)
    monkeypatch.setattr("insignia_index.build.signature.regroup.COMMIT_BYTES", 1)


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Folder and first gene of every batch that is read."""
    batches: list[tuple[str, int]] = []
    original = SignatureArray.batches

    def spied(self: SignatureArray, first_gene: int) -> Iterator[Batch]:
        for batch in original(self, first_gene):
            if not batch.ends_range:
                batches.append((self.path.parent.name, batch.first_gene))
            yield batch

    monkeypatch.setattr(SignatureArray, "batches", spied)
    return batches


def imported(folders: Path, said: list[str] | None = None) -> BuildReport:
    say = (said if said is not None else []).append
    return import_signature(folders.parent / "atlas", SignatureFolders([folders]), say=say)


def interrupt(folders: Path, after: int) -> None:
    """Import until so many points are recorded from which it can go on."""
    with pytest.MonkeyPatch.context() as patch:
        original, n_records = Journal.record, 0

        def counted(*arguments: Any) -> None:
            nonlocal n_records
            original(*arguments)
            n_records += 1
            if n_records == after:
                raise KeyboardInterrupt

        patch.setattr(Journal, "record", counted)
        with pytest.raises(KeyboardInterrupt):
            imported(folders)


def test_an_import_killed_at_any_step_leaves_nothing_or_all_and_goes_on(folders: Path) -> None:
    atlas = folders.parent / "out" / "atlas"
    atlas.parent.mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "tests.index.import_crasher", str(folders), str(atlas)],
        cwd=PROJECT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    reports = [json.loads(line) for line in done.stdout.splitlines()]
    new = reports[-1]["found"]
    states = [report["found"] for report in reports]
    published = states.index(new)
    assert published > 30
    assert states == ["nothing"] * published + [new] * (len(states) - published)
    for report in reports:
        assert report["then"] == new
        assert report["left"] == []
    resumed = [report["resumed"] for report in reports[:published]]
    assert resumed.index(True) < published / 2  # soon there is something to go on from
    assert all(resumed[resumed.index(True) :])


def test_what_is_regrouped_is_not_read_again(folders: Path, read: list[tuple[str, int]]) -> None:
    imported(folders)
    every, whole = read.copy(), found(folders.parent / "atlas")
    assert len(every) > 5
    for after in range(1, len(every) + 1):
        atlas = folders.parent / "atlas"
        shutil.rmtree(atlas)
        interrupt(folders, after)
        read.clear()
        said: list[str] = []
        imported(folders, said)
        assert read[:1] == every[after : after + 1]  # how far a batch reaches is estimated anew
        assert set(read).isdisjoint(every[:after])
        assert "going on where an import stopped" in said[0]
        assert found(atlas) == whole


@pytest.mark.parametrize("damage", ["flipped", "cut", "gone"])
def test_work_that_is_not_what_was_recorded_is_done_again(
    folders: Path, read: list[tuple[str, int]], damage: str
) -> None:
    interrupt(folders, 2)
    read.clear()
    file = folders.parent / "atlas.import" / "entries-0.bin"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    if damage == "gone":
        file.unlink()
    else:
        file.write_bytes(content if damage == "flipped" else content[:-8])
    imported(folders)
    resumed = found(folders.parent / "atlas")
    assert read[0] == ("f", 0)
    (folders.parent / "atlas").rename(folders.parent / "other")
    imported(folders)
    assert found(folders.parent / "atlas") == resumed


def test_work_of_folders_that_changed_is_begun_again(folders: Path, read: list[tuple[str, int]]) -> None:
    interrupt(folders, 2)
    read.clear()
    path = folders / "g" / "cell_metadata.csv.gz"
    path.write_bytes(path.read_bytes() + b"\0")  # gzip may be followed by zeros
    said: list[str] = []
    imported(folders, said)
    assert "beginning again" in said[0]
    assert read[0] == ("f", 0)


def test_work_of_another_version_is_begun_again(folders: Path) -> None:
    interrupt(folders, 2)
    record = folders.parent / "atlas.import" / "progress.json"
    record.write_text(record.read_text().replace('"version": 1', '"version": 99'))
    said: list[str] = []
    assert sorted(imported(folders, said).added) == ["A", "B", "C"]
    assert "beginning again" in said[0]
