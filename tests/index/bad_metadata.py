"""Ways in which names and metadata can be bad, registered beside those of `bad_inputs`."""

from dataclasses import replace
from pathlib import Path

import anndata
import h5py
import numpy as np
import pandas as pd
from anndata.io import write_elem

from insignia_index import InputFile
from insignia_index.build import errors as e

from .bad_inputs import case, edited, h5ad, npz
from .made import study, write_h5ad


@case(e.InvalidText, "bad.h5ad", "the id of cell 2 of study 'bad' is missing")
def a_missing_cell_id(folder: Path) -> InputFile:
    made = study("bad", 2)
    names = pd.Index(["c0", pd.NA], dtype="string")
    with anndata.settings.override(allow_write_nullable_strings=True):
        return h5ad(folder, made.with_(obs=made.obs.set_axis(names)))


@case(e.UnreadableInput, "cells.parquet", "cell 2 has no id")
def a_missing_cell_id_of_a_table(folder: Path) -> InputFile:
    pd.DataFrame({"cell": ["c0", None], "age": [1, 2]}).to_parquet(folder / "cells.parquet")
    return replace(npz(folder), metadata=folder / "cells.parquet")


@case(e.InvalidText, "bad.h5ad", "gene 2 in column 'symbol' of var has no name")
def a_gene_without_a_symbol(folder: Path) -> InputFile:
    def edit(file: h5py.File) -> None:
        del file["var"]
        symbols = pd.Series(["A", None, "B"], dtype="category").to_numpy()
        write_elem(file, "var", pd.DataFrame({"symbol": pd.Categorical(symbols)}, ["x", "y", "z"]))

    return edited(folder, edit, made=study("bad", genes=["A", "B", "C"]), gene_field="symbol")


@case(e.UnreadableInput, "bad.h5ad", "no genes")
def a_file_without_genes(folder: Path) -> InputFile:
    return h5ad(folder, study("bad", genes=[]))


@case(e.UnreadableInput, "bad.h5ad", "anndata before 0.7", "write_h5ad")
def obs_as_old_anndata_wrote_it(folder: Path) -> InputFile:
    def edit(file: h5py.File) -> None:
        del file["obs"]
        file["obs"] = np.array([(b"c0", 1.0), (b"c1", 2.0)], dtype=[("index", "S2"), ("age", "f8")])

    return edited(folder, edit, made=study("bad", 2))


@case(e.UnreadableInput, "bad.h5ad", "obs or var cannot be read", "of-the-future")
def a_column_of_a_newer_anndata(folder: Path) -> InputFile:
    def edit(file: h5py.File) -> None:
        file["obs/age"].attrs["encoding-type"] = "of-the-future"

    return edited(folder, edit, made=study("bad", 2, age=[1.0, 2.0]))


@case(e.UnreadableInput, "bad.h5ad", "--metadata is for .npz")
def a_table_beside_an_h5ad(folder: Path) -> InputFile:
    (folder / "cells.csv").write_text("cell\nc0\n")
    return h5ad(folder, metadata=folder / "cells.csv")


@case(e.UnreadableInput, "bad.npz", "leave out --layer")
def a_layer_of_an_npz(folder: Path) -> InputFile:
    return replace(npz(folder), layer="ig")


@case(e.UnreadableInput, "cells.csv", "more values than its header has names")
def a_table_as_r_writes_it(folder: Path) -> InputFile:
    return npz(folder, table="age,tissue\nc0,1,lung\nc1,2,skin\n")


@case(e.UnreadableInput, "cells.csv", "separated by ','", "';'", "write it with commas")
def a_table_with_semicolons(folder: Path) -> InputFile:
    return npz(folder, table="cell;age\nc0;1\nc1;2\n")


@case(e.UnreadableInput, "cells.csv", "let its name end in .tsv")
def a_table_with_tabs(folder: Path) -> InputFile:
    return npz(folder, table="cell\tage\nc0\t1\nc1\t2\n")


@case(e.UnreadableInput, "cells.parquet", "several levels", "reset_index()")
def a_table_with_an_index_of_two_levels(folder: Path) -> InputFile:
    levels = pd.MultiIndex.from_tuples([("a", 1), ("b", 2)])
    pd.DataFrame({"age": [1, 2]}, levels).to_parquet(folder / "cells.parquet")
    return replace(npz(folder), metadata=folder / "cells.parquet")


@case(e.UnreadableInput, "cells.csv.xz", "cannot be read")
def a_compressed_table_that_is_damaged(folder: Path) -> InputFile:
    (folder / "cells.csv.xz").write_bytes(b"\xfd7zXZ\0\0no")
    return replace(npz(folder), metadata=folder / "cells.csv.xz")


@case(e.MissingField, "bad.h5ad", "'batch' has no value for any cell")
def a_study_column_without_values(folder: Path) -> InputFile:
    return replace(h5ad(folder, study("bad", 2, batch=[np.nan, np.nan])), study_field="batch")


@case(e.ReservedField, "bad.h5ad", "'sample'", "--sample-field donor", "--drop-field sample")
def a_sample_column_that_another_would_hide(folder: Path) -> InputFile:
    return h5ad(folder, study("bad", 2, sample=["a", "b"], donor=["x", "y"]), sample_field="donor")


@case(e.StudyTwice, "bad.h5ad", "'first'", "another one of the files")
def a_study_of_another_file(folder: Path) -> InputFile:
    write_h5ad(folder / "first.h5ad", study("first"))
    return h5ad(folder, study("first", seed=7))


@case(e.InvalidText, "bad.h5ad", "is not Unicode text")
def a_study_name_that_is_no_text(folder: Path) -> InputFile:
    return h5ad(folder, study=f"a{chr(0xDCFF)}")
