"""Every bad folder, array, metadata or option is an error that says what to do, and nothing is published."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from insignia_index import Atlas
from insignia_index.build.build import BuildOptions
from insignia_index.build.errors import (
    CorruptMatrix,
    DuplicateCellId,
    DuplicateGene,
    EmptyStudy,
    FieldConflict,
    MissingField,
    NoAttributions,
    NotFiniteValue,
    ReservedField,
    ShapeMismatch,
    StudyExists,
    UnreadableInput,
    UnsupportedArray,
)
from insignia_index.build.signature.importer import SignatureFolders, import_signature
from insignia_model.errors import AtlasLocked, InsigniaError, InvalidArgument, MissingExtra, StorageFull

from .made import tree
from .published import made_cells, made_values, tiledb, write_folder, write_genes

GENES = ["G0", "G1", "G2"]
VALUES = made_values(np.random.default_rng(0), 4, 3, density=0.9)


def folder(at: Path, cells: pd.DataFrame | None = None, values: np.ndarray = VALUES, **how: Any) -> Path:
    write_folder(at, values, made_cells("AABB") if cells is None else cells, **how)
    write_genes(at.parent, GENES)
    return at


def without(name: str) -> Callable[[Path], Path]:
    def make(at: Path) -> Path:
        path = folder(at) / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        return at

    return make


def no_folder(at: Path) -> Path:
    return at


def nothing_in_it(at: Path) -> Path:
    (at / "other").mkdir(parents=True)
    return at


def no_array(at: Path) -> Path:
    shutil.rmtree(folder(at) / "attributions" / "__schema")
    return at


def damaged(at: Path) -> Path:
    for file in (folder(at) / "attributions" / "__fragments").rglob("a0.tdb"):
        file.write_bytes(file.read_bytes()[:-9])
    return at


def group(at: Path) -> Path:
    shutil.rmtree(folder(at) / "attributions")
    tiledb.Group.create(str(at / "attributions"))
    return at


def three_dimensions(at: Path) -> Path:
    shutil.rmtree(folder(at) / "attributions")
    sides = [tiledb.Dim(name=name, domain=(0, 3), dtype=np.uint32) for name in "xyz"]
    values = [tiledb.Attr(name="vals", dtype=np.float32)]
    tiledb.Array.create(
        str(at / "attributions"), tiledb.ArraySchema(tiledb.Domain(*sides), attrs=values, sparse=True)
    )
    return at


def with_value(value: float) -> Callable[[Path], Path]:
    values = VALUES.copy()
    values[2, 1] = value
    return lambda at: folder(at, values=values)


def with_genes(genes: list[str]) -> Callable[[Path], Path]:
    def make(at: Path) -> Path:
        folder(at)
        write_genes(at.parent, genes)
        return at

    return make


def cells_of(studies: Any, **fields: Any) -> Callable[[Path], Path]:
    return lambda at: folder(at, made_cells(studies, **fields))


def ids(*names: str) -> Callable[[Path], Path]:
    return lambda at: folder(at, made_cells("AABB").set_axis(list(names)))


def garbled_table(at: Path) -> Path:
    (folder(at) / "cell_metadata.csv.gz").write_bytes(b"\x1f\x8bno gzip")
    return at


def cut_table(at: Path) -> Path:
    path = folder(at) / "cell_metadata.csv.gz"
    path.write_bytes(path.read_bytes()[:-12])
    return at


BAD: dict[str, tuple[Callable[[Path], Path], type[InsigniaError], str]] = {
    "no folder": (no_folder, NoAttributions, "there is no such folder"),
    "nothing in the folder": (nothing_in_it, NoAttributions, "holds no attributions/"),
    "no attributions": (without("attributions"), NoAttributions, "and no attributions/"),
    "no metadata": (without("cell_metadata.csv.gz"), NoAttributions, "--metadata-name"),
    "no array": (no_array, UnreadableInput, "no TileDB array"),
    "a group": (group, UnreadableInput, "no TileDB array"),
    "a damaged array": (damaged, CorruptMatrix, "genes 0 to 3 cannot be read|cannot open"),
    "a dense array": (lambda at: folder(at, sparse=False), UnsupportedArray, "is dense"),
    "other dimensions": (lambda at: folder(at, names="ij"), UnsupportedArray, "dimensions i, j"),
    "another attribute": (lambda at: folder(at, value="data"), UnsupportedArray, "attributes data"),
    "three dimensions": (three_dimensions, UnsupportedArray, "dimensions x, y, z"),
    "a short gene order": (with_genes(GENES[:2]), ShapeMismatch, "2 entries, the matrix needs 3"),
    "a long gene order": (with_genes([*GENES, "G3"]), ShapeMismatch, "4 entries, the matrix needs 3"),
    "a gene twice": (with_genes(["a", "b", "a"]), DuplicateGene, "stand twice: a"),
    "short metadata": (cells_of("ABB"), ShapeMismatch, "metadata table has 3 entries"),
    "long metadata": (cells_of("AABBB"), ShapeMismatch, "metadata table has 5 entries"),
    "no cells": (cells_of(""), EmptyStudy, "no cells"),
    "garbled metadata": (garbled_table, UnreadableInput, "cannot be read"),
    "cut metadata": (cut_table, UnreadableInput, "cannot be read"),
    "a cell without a study": (cells_of(["A", None, "B", "B"]), MissingField, "no value for cell '1'"),
    "NaN": (with_value(np.nan), NotFiniteValue, "attributions: study 'B', cell '2'"),
    "infinity": (with_value(np.inf), NotFiniteValue, "attributions: study 'B', cell '2'"),
    "an id twice": (ids("a", "a", "b", "c"), DuplicateCellId, "stand twice in study 'A': f/a"),
    "an empty id": (ids("", "a", "b", "c"), InsigniaError, "the id '' of a cell of study"),
    "a reserved column": (cells_of("AABB", score=[1, 2, 3, 4]), ReservedField, "--drop-field score"),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("exists", [True, False])
def test_a_bad_input_is_told_and_leaves_nothing(tmp_path: Path, name: str, exists: bool) -> None:
    make, error, message = BAD[name]
    atlas = tmp_path / "out" / "atlas"
    atlas.parent.mkdir()
    if exists:
        good = folder(tmp_path / "good" / "f", made_cells("CCCC"))
        import_signature(atlas, SignatureFolders([good]))
    before = tree(atlas.parent)
    bad = make(tmp_path / "bad" / "f")
    with pytest.raises(error, match=message) as raised:
        import_signature(atlas, SignatureFolders([bad]))
    assert isinstance(raised.value, error)
    assert tree(atlas.parent) == before
    assert atlas.exists() == exists


OPTIONS: dict[str, tuple[dict[str, Any], type[InsigniaError], str]] = {
    "no such study field": ({"study_field": "dataset"}, MissingField, "'dataset' is not there; it has study"),
    "no such sample field": ({"sample_field": "donor"}, MissingField, "'donor' is in no folder's metadata"),
    "no such gene order": ({"gene_order": Path("none.tsv")}, UnreadableInput, "none.tsv"),
    "no such metadata": ({"metadata_name": "cells.csv"}, NoAttributions, "no cells.csv"),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_an_option_that_does_not_fit_is_told(tmp_path: Path, name: str) -> None:
    how, error, message = OPTIONS[name]
    good = folder(tmp_path / "in" / "f")
    with pytest.raises(error, match=message):
        import_signature(tmp_path / "atlas", SignatureFolders([good], **how))
    assert not (tmp_path / "atlas").exists()


def test_without_a_gene_order_the_option_is_named(tmp_path: Path) -> None:
    good = folder(tmp_path / "in" / "f")
    (tmp_path / "in" / "gene_order.tsv").unlink()
    with pytest.raises(UnreadableInput, match="--gene-order FILE"):
        import_signature(tmp_path / "atlas", SignatureFolders([good]))


def test_gene_orders_that_differ_are_told(tmp_path: Path) -> None:
    folders = [folder(tmp_path / name / "f") for name in "ab"]
    folders[1] = folders[1].rename(tmp_path / "b" / "g")
    write_genes(tmp_path / "b", ["x", "y", "z"])
    with pytest.raises(InvalidArgument, match="differ; --gene-order"):
        import_signature(tmp_path / "atlas", SignatureFolders(folders))


def test_a_folder_given_twice_is_told(tmp_path: Path) -> None:
    good = folder(tmp_path / "in" / "f")
    with pytest.raises(InvalidArgument, match="given twice"):
        import_signature(tmp_path / "atlas", SignatureFolders([good, good.parent]))


def test_two_folders_of_one_name_are_told(tmp_path: Path) -> None:
    folders = [folder(tmp_path / name / "f") for name in "ab"]
    with pytest.raises(InvalidArgument, match="named 'f'; rename one"):
        import_signature(tmp_path / "atlas", SignatureFolders(folders))


def test_a_study_of_other_content_is_not_replaced_unasked(tmp_path: Path) -> None:
    atlas = tmp_path / "atlas"
    import_signature(atlas, SignatureFolders([folder(tmp_path / "a" / "f")]))
    other = folder(tmp_path / "b" / "f", values=VALUES * 2)
    with pytest.raises(StudyExists, match="--replace"):
        import_signature(atlas, SignatureFolders([other]))
    report = import_signature(atlas, SignatureFolders([other]), BuildOptions(replace=True))
    assert report.replaced == ["A", "B"]


def test_a_field_of_another_kind_than_in_the_atlas_is_told_before_anything_is_read(tmp_path: Path) -> None:
    atlas = tmp_path / "atlas"
    import_signature(
        atlas, SignatureFolders([folder(tmp_path / "a" / "f", made_cells("AAAA", age=[1.5] * 4))])
    )
    other = damaged(folder(tmp_path / "b" / "f", made_cells("BBBB", age=["old"] * 4)).parent / "g")
    (other / "cell_metadata.csv.gz").write_bytes((tmp_path / "b/f/cell_metadata.csv.gz").read_bytes())
    with pytest.raises(FieldConflict, match="'age' is a category here and a number in study 'A'"):
        import_signature(atlas, SignatureFolders([other]))


def test_sums_by_a_field_that_no_study_has_are_told_before_anything_is_read(tmp_path: Path) -> None:
    bad = damaged(tmp_path / "in" / "f")
    with pytest.raises(InvalidArgument, match="no study has the field 'batch'"):
        import_signature(
            tmp_path / "atlas", SignatureFolders([bad]), BuildOptions(pseudobulk=["sample", "batch"])
        )


def test_a_directory_that_is_no_imports_is_left_alone(tmp_path: Path) -> None:
    good = folder(tmp_path / "in" / "f")
    (tmp_path / "atlas.import").mkdir()
    (tmp_path / "atlas.import" / "notes.txt").write_text("mine")
    with pytest.raises(InvalidArgument, match=r"atlas\.import is in the way"):
        import_signature(tmp_path / "atlas", SignatureFolders([good]))
    assert (tmp_path / "atlas.import" / "notes.txt").read_text() == "mine"


def test_an_atlas_with_a_writer_at_work_is_told(tmp_path: Path) -> None:
    good = folder(tmp_path / "in" / "f")
    from insignia_index.catalog.writer import AtlasWriter

    with (
        AtlasWriter.open(tmp_path / "atlas", create_dtype="float16"),
        pytest.raises(AtlasLocked),
    ):
        import_signature(tmp_path / "atlas", SignatureFolders([good]))


def test_a_disk_that_fills_up_is_told_and_the_import_goes_on_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = folder(tmp_path / "in" / "f")

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("insignia_index.build.signature.regroup.os.pwrite", full)
        with pytest.raises(StorageFull, match="nothing was published"):
            import_signature(tmp_path / "atlas", SignatureFolders([good]))
    assert not (tmp_path / "atlas").exists()
    assert import_signature(tmp_path / "atlas", SignatureFolders([good])).added == ["A", "B"]
    with Atlas.open(tmp_path / "atlas") as atlas:
        assert np.count_nonzero(atlas.scores(["G1"]).values) == np.count_nonzero(VALUES[:, 1])
    assert not (tmp_path / "atlas.import").exists()


def test_without_tiledb_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = folder(tmp_path / "in" / "f")
    monkeypatch.setitem(sys.modules, "tiledb", None)
    with pytest.raises(MissingExtra, match=r"pip install 'insignia\[tiledb\]'"):
        import_signature(tmp_path / "atlas", SignatureFolders([good]))


def test_the_command_says_what_it_did_and_what_is_wrong(tmp_path: Path) -> None:
    good = folder(tmp_path / "in" / "f")
    command = [Path(sys.executable).with_name("insignia"), "import-signature", good, tmp_path / "atlas"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "2 studies added; 4 cells" in done.stdout
    again = subprocess.run(command, capture_output=True, text=True)
    assert "nothing to do: 2 studies already there, unchanged" in again.stdout
    bad = subprocess.run([*command[:2], tmp_path, tmp_path / "b"], capture_output=True, text=True)
    assert bad.returncode != 0
    assert "holds no attributions/" in bad.stderr
