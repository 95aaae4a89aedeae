"""Every way in which an input can be bad: a file, the error that it must give, what the message must name."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
from anndata.io import write_elem
from scipy.sparse import csc_matrix, csr_matrix, save_npz

from insignia_index import InputFile
from insignia_index.build import errors as e
from insignia_model.errors import InputError

from .made import Study, study, write_h5ad

Bad = Callable[[Path], InputFile]
CASES: dict[str, tuple[Bad, type[InputError], list[str]]] = {}


def case(error: type[InputError], *words: str) -> Callable[[Bad], Bad]:
    """A bad input, in a folder of its own: the error that it gives, and words of its message."""

    def register(make: Bad) -> Bad:
        CASES[make.__name__] = (make, error, list(words))
        return make

    return register


def h5ad(folder: Path, made: Study | None = None, **options: Any) -> InputFile:
    how = {name: options.pop(name) for name in ("matrix", "study_field") if name in options}
    return InputFile(write_h5ad(folder / "bad.h5ad", made or study("bad"), **how), **options)


def edited(folder: Path, edit: Callable[[h5py.File], None], **options: Any) -> InputFile:
    """An .h5ad that was changed after it was written."""
    file = h5ad(folder, **options)
    with h5py.File(file.path, "a") as handle:
        edit(handle)
    return file


def npz(
    folder: Path, matrix: Any = None, genes: str = "G0\nG1\n", table: str = "cell,age\nc0,1\nc1,2\n"
) -> InputFile:
    save_npz(folder / "bad.npz", csr_matrix(np.eye(2, dtype=np.float32)) if matrix is None else matrix)
    (folder / "genes.txt").write_text(genes)
    (folder / "cells.csv").write_text(table)
    return InputFile(folder / "bad.npz", metadata=folder / "cells.csv", genes=folder / "genes.txt")


@case(e.UnreadableInput, "bad.h5ad", "no such file")
def a_file_that_is_not_there(folder: Path) -> InputFile:
    return InputFile(folder / "bad.h5ad")


@case(e.UnreadableInput, "bad.loom", ".h5ad, .zarr or .npz")
def a_file_of_another_kind(folder: Path) -> InputFile:
    (folder / "bad.loom").write_text("?")
    return InputFile(folder / "bad.loom")


@case(e.UnreadableInput, "bad.h5ad", "not an h5ad file")
def text_named_h5ad(folder: Path) -> InputFile:
    (folder / "bad.h5ad").write_text("gene,cell\n")
    return InputFile(folder / "bad.h5ad")


@case(e.UnreadableInput, "bad.h5ad", "'obs'")
def hdf5_that_is_not_anndata(folder: Path) -> InputFile:
    with h5py.File(folder / "bad.h5ad", "w") as handle:
        handle["matrix"] = np.eye(3)
    return InputFile(folder / "bad.h5ad")


@case(e.UnreadableInput, "bad.h5ad", "cut off")
def a_truncated_h5ad(folder: Path) -> InputFile:
    file = h5ad(folder)
    file.path.write_bytes(file.path.read_bytes()[:-1000])
    return file


@case(e.UnreadableInput, "bad.h5ad", "obs")
def obs_without_its_index(folder: Path) -> InputFile:
    def edit(handle: h5py.File) -> None:
        del handle["obs/_index"]

    return edited(folder, edit)


@case(e.UnreadableInput, "bad.zarr")
def an_empty_directory_named_zarr(folder: Path) -> InputFile:
    (folder / "bad.zarr").mkdir()
    return InputFile(folder / "bad.zarr")


@case(e.UnreadableInput, "bad.npz")
def text_named_npz(folder: Path) -> InputFile:
    file = npz(folder)
    file.path.write_text("?")
    return file


@case(e.UnreadableInput, "bad.npz")
def a_truncated_npz(folder: Path) -> InputFile:
    file = npz(folder)
    file.path.write_bytes(file.path.read_bytes()[:-200])
    return file


@case(e.UnreadableInput, "bad.npz")
def a_lone_array_named_npz(folder: Path) -> InputFile:
    file = npz(folder)
    with file.path.open("wb") as handle:
        np.save(handle, np.eye(2))
    return file


@case(e.UnreadableInput, "--metadata", "--genes-file")
def npz_without_its_table(folder: Path) -> InputFile:
    return InputFile(npz(folder).path)


@case(e.UnreadableInput, "cells.csv")
def an_empty_table(folder: Path) -> InputFile:
    return npz(folder, table="")


@case(e.UnreadableInput, "genes.txt")
def a_gene_list_that_is_not_text(folder: Path) -> InputFile:
    file = npz(folder)
    (folder / "genes.txt").write_bytes(b"\xff\xfe\x00G")
    return file


@case(e.UnreadableLayer, "bad.h5ad", "'attributions'", "no layers", "--layer")
def a_layer_that_is_not_there(folder: Path) -> InputFile:
    return h5ad(folder, layer="attributions")


@case(e.UnreadableLayer, "bad.h5ad", "'X'", "ig")
def no_x_beside_a_layer(folder: Path) -> InputFile:
    def edit(handle: h5py.File) -> None:
        handle.move("X", "layers/ig")

    return edited(folder, edit)


@case(e.UnreadableLayer, "bad.h5ad", "'X'")
def a_group_without_data(folder: Path) -> InputFile:
    def edit(handle: h5py.File) -> None:
        del handle["X/data"]

    return edited(folder, edit)


@case(e.UnsupportedMatrix, "bad.h5ad", "CSC", "tocsr")
def a_matrix_by_gene(folder: Path) -> InputFile:
    return h5ad(folder, matrix=csc_matrix(study("bad").values))


@case(e.UnsupportedMatrix, "bad.npz", "CSC")
def npz_by_gene(folder: Path) -> InputFile:
    return npz(folder, csc_matrix(np.eye(2)))


@case(e.UnsupportedMatrix, "bad.h5ad", "not numbers")
def a_matrix_of_text(folder: Path) -> InputFile:
    return h5ad(folder, matrix=np.full((40, 12), "x", object))


@case(e.UnsupportedMatrix, "bad.npz", "complex")
def a_complex_matrix(folder: Path) -> InputFile:
    return npz(folder, csr_matrix(np.eye(2) * 1j))


@case(e.CorruptMatrix, "bad.h5ad", "cell 'c0'", "out of range")
def a_column_out_of_range(folder: Path) -> InputFile:
    def edit(handle: h5py.File) -> None:
        handle["X/indices"][0] = 12

    return edited(folder, edit)


@case(e.CorruptMatrix, "bad.h5ad")
def row_pointers_that_descend(folder: Path) -> InputFile:
    def edit(handle: h5py.File) -> None:
        handle["X/indptr"][5] = 10_000

    return edited(folder, edit)


@case(e.CorruptMatrix, "bad.h5ad", "cannot be read")
def a_damaged_chunk(folder: Path) -> InputFile:
    matrix = csr_matrix(study("bad").values)
    path = h5ad(folder).path
    with h5py.File(path, "a") as handle:
        del handle["X"]
        write_elem(handle, "X", matrix, dataset_kwargs={"compression": "gzip"})
        chunk = handle["X/data"].id.get_chunk_info(0)
    raw = bytearray(path.read_bytes())
    raw[chunk.byte_offset : chunk.byte_offset + chunk.size] = bytes(chunk.size)
    path.write_bytes(raw)
    return InputFile(path)


@case(e.CorruptMatrix, "bad.npz")
def npz_with_pointers_past_its_end(folder: Path) -> InputFile:
    file = npz(folder)
    parts = {"format": "csr", "shape": (2, 2), "data": np.ones(2), "indices": np.arange(2)}
    np.savez(file.path, indptr=np.array([0, 1, 9]), **parts)
    return file


def with_value(value: float) -> Study:
    made = study("bad")
    made.values[7, 3] = value
    return made


@case(e.NotFiniteValue, "bad.h5ad", "study 'bad'", "cell 'c7'")
def a_value_that_is_not_a_number(folder: Path) -> InputFile:
    return h5ad(folder, with_value(np.nan))


@case(e.NotFiniteValue, "bad.h5ad", "study 'bad'", "cell 'c7'")
def an_infinite_value(folder: Path) -> InputFile:
    return h5ad(folder, with_value(-np.inf))


@case(e.NotFiniteValue, "bad.h5ad", "cell 'c7'")
def a_double_that_no_single_can_hold(folder: Path) -> InputFile:
    values = study("bad").values.astype(np.float64)
    values[7, 3] = 1e300
    return h5ad(folder, matrix=csr_matrix(values))


@case(e.DuplicateEntry, "bad.h5ad", "study 'bad'", "cell 'c1'", "sum_duplicates")
def a_gene_twice_in_a_cell(folder: Path) -> InputFile:
    parts = (np.ones(3, np.float32), np.array([0, 4, 4]), np.array([0, 1] + [3] * 39))
    return h5ad(folder, matrix=csr_matrix(parts, shape=(40, 12)))


@case(e.EmptyStudy, "bad.h5ad", "no cells")
def a_file_without_cells(folder: Path) -> InputFile:
    return h5ad(folder, study("bad", 0))


@case(e.EmptyStudy, "bad.h5ad", "'bad'", "no cells")
def a_file_without_cells_or_study_column(folder: Path) -> InputFile:
    return h5ad(folder, study("bad", 0), study_field=None)


@case(e.DuplicateGene, "bad.h5ad", "TP53")
def a_gene_twice(folder: Path) -> InputFile:
    return h5ad(folder, study("bad", genes=["TP53", "KRAS", "TP53"]))


@case(e.DuplicateCellId, "bad.h5ad", "study 'bad'", "c0", "obs_names_make_unique")
def a_cell_id_twice_in_a_study(folder: Path) -> InputFile:
    made = study("bad", 5)
    return h5ad(folder, made.with_(obs=made.obs.set_axis(["c0", "c1", "c0", "c3", "c4"])))


@case(e.MissingField, "bad.h5ad", "'batch'", "sample")
def a_study_field_that_is_not_there(folder: Path) -> InputFile:
    return InputFile(h5ad(folder, study_field=None).path, study_field="batch")


@case(e.MissingField, "bad.h5ad", "'donor'", "sample")
def a_sample_field_that_is_not_there(folder: Path) -> InputFile:
    return h5ad(folder, sample_field="donor")


@case(e.MissingField, "bad.h5ad", "'symbol'", "var")
def a_gene_field_that_is_not_there(folder: Path) -> InputFile:
    return h5ad(folder, gene_field="symbol")


@case(e.MissingField, "bad.h5ad", "'batch'", "'c1'", "every cell needs a study")
def a_cell_without_a_study(folder: Path) -> InputFile:
    made = study("bad", 3, batch=["x", None, "y"])
    return InputFile(h5ad(folder, made, study_field=None).path, study_field="batch")


@case(e.ReservedField, "bad.h5ad", "'score'", "--drop-field score")
def a_field_named_like_a_result(folder: Path) -> InputFile:
    return h5ad(folder, study("bad", 3, score=[1, 2, 3]))


@case(e.ReservedField, "bad.h5ad", "'study'", "--drop-field study")
def a_study_column_beside_the_study_field(folder: Path) -> InputFile:
    made = study("bad", 3, dataset=["x", "x", "y"])
    return InputFile(h5ad(folder, made).path, study_field="dataset")


@case(e.FieldConflict, "bad.h5ad", "'age'", "category", "number", "'good'", "--drop-field age")
def a_field_of_another_kind_than_elsewhere(folder: Path) -> InputFile:
    return h5ad(folder, study("bad", 2, age=["young", "old"]))


@case(e.InvalidText, "bad.h5ad", "id '' of a cell of study 'bad'", "rename it")
def an_empty_cell_id(folder: Path) -> InputFile:
    made = study("bad", 2)
    return h5ad(folder, made.with_(obs=made.obs.set_axis(["", "c1"])))


@case(e.InvalidText, "bad.h5ad", "gene 2", "is empty")
def an_empty_gene(folder: Path) -> InputFile:
    return h5ad(folder, study("bad", genes=["A", ""]))


@case(e.InvalidText, "bad.npz", "column name")
def a_column_name_that_no_key_can_hold(folder: Path) -> InputFile:
    return npz(folder, table=f"cell,{'x' * 301}\nc0,1\nc1,2\n")


@case(e.InvalidText, "study's name", "300 bytes")
def a_study_name_that_no_key_can_hold(folder: Path) -> InputFile:
    return h5ad(folder, study="ä" * 151)


@case(e.ShapeMismatch, "genes.txt", "3", "2")
def a_gene_list_of_the_wrong_length(folder: Path) -> InputFile:
    return npz(folder, genes="G0\nG1\nG2\n")


@case(e.ShapeMismatch, "cells.csv", "1", "2")
def a_table_of_the_wrong_length(folder: Path) -> InputFile:
    return npz(folder, table="cell,age\nc0,1\n")


@case(e.ShapeMismatch, "bad.h5ad", "obs", "3", "40")
def obs_of_the_wrong_length(folder: Path) -> InputFile:
    def edit(handle: h5py.File) -> None:
        del handle["obs"]
        write_elem(handle, "obs", pd.DataFrame(index=["a", "b", "c"]))

    return edited(folder, edit)


@case(e.ShapeMismatch, "bad.h5ad", "var", "1", "12")
def var_of_the_wrong_length(folder: Path) -> InputFile:
    def edit(handle: h5py.File) -> None:
        del handle["var"]
        write_elem(handle, "var", pd.DataFrame(index=["a"]))

    return edited(folder, edit)


@case(e.StudyExists, "bad.h5ad", "'good'", "--replace")
def a_study_that_is_there_with_other_content(folder: Path) -> InputFile:
    return h5ad(folder, study("good", 7))
