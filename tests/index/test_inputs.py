"""Every kind of input file gives the same atlas."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csc_matrix, csr_matrix, save_npz

from insignia_index import Atlas, InputFile, build_atlas, remove_studies
from insignia_index.build.anndata_source import AnnDataSource
from insignia_index.build.errors import CorruptMatrix, UnreadableInput, UnsupportedMatrix

from .made import Study, blocks_of, study, write_h5ad

MADE = study("A", 37, 9, density=0.5, signed=True, age=np.arange(37.0))


def scores(path: Path, made: Study = MADE) -> np.ndarray:
    with Atlas.open(path) as atlas:
        return np.stack([atlas.scores([gene]).values for gene in made.genes], axis=1)


def as_anndata(matrix: Any) -> anndata.AnnData:
    return anndata.AnnData(matrix, obs=MADE.obs.assign(study="A"), var=pd.DataFrame(index=list(MADE.genes)))


def unsorted() -> csr_matrix:
    """Columns in descending order in every row."""
    matrix = csr_matrix(MADE.values)
    for a, b in pairwise(matrix.indptr):
        matrix.indices[a:b], matrix.data[a:b] = (
            matrix.indices[a:b][::-1].copy(),
            matrix.data[a:b][::-1].copy(),
        )
    return matrix


def with_explicit_zeros() -> csr_matrix:
    every = np.nonzero(np.ones_like(MADE.values))
    return csr_matrix((MADE.values.ravel(), every), shape=MADE.values.shape)


MATRICES = {
    "csr": lambda: csr_matrix(MADE.values),
    "dense": lambda: MADE.values,
    "double": lambda: csr_matrix(MADE.values.astype(np.float64)),
    "dense_double": lambda: MADE.values.astype(np.float64),
    "unsorted": unsorted,
    "explicit_zeros": with_explicit_zeros,
    "wide_indices": lambda: csr_matrix(
        (*[csr_matrix(MADE.values).data], csr_matrix(MADE.values).indices.astype(np.int64),
         csr_matrix(MADE.values).indptr.astype(np.int64)), shape=MADE.values.shape,
    ),
}  # fmt: skip


@pytest.mark.parametrize("compression", [None, "gzip"])
@pytest.mark.parametrize("matrix", MATRICES)
def test_h5ad(tmp_path: Path, matrix: str, compression: str | None) -> None:
    as_anndata(MATRICES[matrix]()).write_h5ad(tmp_path / "a.h5ad", compression=compression)
    build_atlas(tmp_path / "atlas", [InputFile(tmp_path / "a.h5ad")], value_dtype="float32")
    np.testing.assert_array_equal(scores(tmp_path / "atlas"), MADE.values)


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("matrix", ["csr", "dense"])
@pytest.mark.filterwarnings("ignore:Writing zarr v2", "ignore:zarr v3", "ignore:Consolidated metadata")
def test_zarr(tmp_path: Path, matrix: str, version: int) -> None:
    with anndata.settings.override(zarr_write_format=version):
        as_anndata(MATRICES[matrix]()).write_zarr(tmp_path / "a.zarr")
    build_atlas(tmp_path / "atlas", [InputFile(tmp_path / "a.zarr")], value_dtype="float32")
    np.testing.assert_array_equal(scores(tmp_path / "atlas"), MADE.values)


def test_a_layer_is_used_instead_of_x(tmp_path: Path) -> None:
    made = as_anndata(np.zeros_like(MADE.values))
    made.layers["attributions"] = csr_matrix(MADE.values)
    made.write_h5ad(tmp_path / "a.h5ad")
    file = InputFile(tmp_path / "a.h5ad", layer="attributions")
    build_atlas(tmp_path / "atlas", [file], value_dtype="float32")
    np.testing.assert_array_equal(scores(tmp_path / "atlas"), MADE.values)


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.bool_, np.float16])
def test_matrices_of_other_numbers(tmp_path: Path, dtype: type) -> None:
    values = (np.abs(MADE.values) * 10).astype(dtype)
    # scipy knows no sparse float16
    write_h5ad(tmp_path / "a.h5ad", MADE, matrix=values if dtype == np.float16 else csr_matrix(values))
    build_atlas(tmp_path / "atlas", [InputFile(tmp_path / "a.h5ad")], value_dtype="float32")
    np.testing.assert_array_equal(scores(tmp_path / "atlas"), values.astype(np.float32))


@pytest.mark.parametrize("table", ["csv", "tsv", "parquet", "parquet_without_index"])
def test_npz_with_a_table(tmp_path: Path, table: str) -> None:
    save_npz(tmp_path / "a.npz", csr_matrix(MADE.values))
    (tmp_path / "genes.txt").write_text("".join(f"{gene}\tdescription\n" for gene in MADE.genes))
    # ids that a table reader would take for numbers or for missing values
    ids = ["007", "NA", *MADE.obs.index[2:]]
    obs = MADE.obs.assign(study="A").set_axis(pd.Index(ids, name="cell"))
    metadata = tmp_path / f"cells.{table.split('_')[0]}"
    if table == "parquet":
        obs.to_parquet(metadata)
    elif table == "parquet_without_index":
        obs.reset_index().to_parquet(metadata)
    else:
        obs.to_csv(metadata, sep="\t" if table == "tsv" else ",")
    file = InputFile(tmp_path / "a.npz", metadata=metadata, genes=tmp_path / "genes.txt")
    build_atlas(tmp_path / "atlas", [file], value_dtype="float32")
    np.testing.assert_array_equal(scores(tmp_path / "atlas"), MADE.values)
    with Atlas.open(tmp_path / "atlas") as atlas:
        row = next(iter(atlas.cells([("A", "007")]).rows()))
        assert (row["sample"], row["age"]) == ("A-s0", 0.0)
        assert len(atlas.cells([("A", "NA")])) == 1


@pytest.mark.parametrize("dtype", ["f2", ">f2", ">f4", ">f8", ">i4", "?"])
def test_npz_of_other_numbers(tmp_path: Path, dtype: str) -> None:
    matrix = csr_matrix(np.ceil(np.abs(MADE.values)))
    parts = {"data": matrix.data, "indices": matrix.indices.astype(">i4"), "indptr": matrix.indptr}
    parts["data"] = parts["data"].astype(dtype)
    np.savez(tmp_path / "a.npz", format=b"csr", shape=np.array(matrix.shape), **parts)
    MADE.obs.assign(study="A").to_csv(tmp_path / "cells.csv")
    (tmp_path / "genes.txt").write_text("\n".join(MADE.genes))
    file = InputFile(tmp_path / "a.npz", metadata=tmp_path / "cells.csv", genes=tmp_path / "genes.txt")
    build_atlas(tmp_path / "atlas", [file], value_dtype="float32")
    wanted = matrix.toarray().astype(dtype).astype(np.float32)
    np.testing.assert_array_equal(scores(tmp_path / "atlas"), wanted)
    for shape in ([37], [37, 9, 1]):
        np.savez(tmp_path / "a.npz", format=b"csr", shape=np.array(shape), **parts)
        with pytest.raises(UnreadableInput, match="not a scipy CSR"):
            build_atlas(tmp_path / "b", [file])


@pytest.mark.parametrize("dtype", ["f2", ">f4"])
def test_sparse_numbers_that_cannot_be_sliced_are_told(tmp_path: Path, dtype: str) -> None:
    write_h5ad(tmp_path / "a.h5ad", MADE, matrix=csr_matrix(MADE.values))
    with h5py.File(tmp_path / "a.h5ad", "a") as file:
        data = file["X/data"][:]
        del file["X/data"]
        file["X/data"] = data.astype(dtype)
    with pytest.raises(UnsupportedMatrix, match="write it as float32"):
        build_atlas(tmp_path / "atlas", [InputFile(tmp_path / "a.h5ad")])


def test_a_zarr_that_was_copied_in_part_is_refused(tmp_path: Path) -> None:
    as_anndata(csr_matrix(MADE.values)).write_zarr(tmp_path / "a.zarr")
    (chunk,) = (p for p in (tmp_path / "a.zarr/X/data").rglob("*") if p.is_file() and p.name in ("0", "0.0"))
    chunk.unlink()
    with pytest.raises(CorruptMatrix, match="1 of the 1 chunks of its values are not there"):
        build_atlas(tmp_path / "atlas", [InputFile(tmp_path / "a.zarr")])


def test_as_many_categories_as_cells(tmp_path: Path) -> None:
    n = 33_000  # from 32,768 categories on pandas keeps their codes as int32
    made = study("A", n, 2, density=0.01, clone=pd.Categorical([f"b{i}" for i in range(n)]))
    write_h5ad(tmp_path / "a.h5ad", made)
    build_atlas(tmp_path / "atlas", [InputFile(tmp_path / "a.h5ad")])
    with Atlas.open(tmp_path / "atlas") as atlas:
        assert atlas.search(["G0"], where={"clone": ["b7", "b32999"]}).n_cells == 2


def test_a_column_of_var_names_the_genes(tmp_path: Path) -> None:
    made = as_anndata(csr_matrix(MADE.values))
    made.var["symbol"] = [f"S{i}" for i in range(9)]
    made.write_h5ad(tmp_path / "a.h5ad")
    build_atlas(tmp_path / "atlas", [InputFile(tmp_path / "a.h5ad", gene_field="symbol")])
    with Atlas.open(tmp_path / "atlas") as atlas:
        assert atlas.genes(["S3", "G3"]).missing == ("G3",)


@pytest.mark.parametrize("order", ["together", "interleaved"])
@pytest.mark.parametrize("matrix", ["csr", "dense"])
def test_a_file_of_many_studies(tmp_path: Path, order: str, matrix: str) -> None:
    rng = np.random.default_rng(0)
    of = np.repeat([0, 1, 2], [20, 7, 10])
    of = rng.permutation(of) if order == "interleaved" else of
    made = MADE.with_(obs=MADE.obs.assign(batch=[f"study {i}" for i in of]))
    write_h5ad(tmp_path / "a.h5ad", made, matrix=MATRICES[matrix](), study_field=None)
    with blocks_of(8):
        build_atlas(
            tmp_path / "atlas", [InputFile(tmp_path / "a.h5ad", study_field="batch")], value_dtype="float32"
        )
    rows = np.argsort(of, kind="stable")
    np.testing.assert_array_equal(scores(tmp_path / "atlas"), MADE.values[rows])
    with Atlas.open(tmp_path / "atlas") as atlas:
        frame = atlas.scores(["G0"], cell_ids=True).to_frame()
    assert frame["study"].tolist() == [f"study {i}" for i in of[rows]]
    assert frame["cell_id"].tolist() == [f"c{i}" for i in rows]


def test_interleaved_files_of_which_some_studies_are_there_already(tmp_path: Path) -> None:
    names = np.array(["X", "Y"])[np.arange(37) % 2]
    mixed = MADE.with_(obs=MADE.obs.assign(study=names))
    write_h5ad(tmp_path / "mixed.h5ad", mixed, study_field=None)
    build_atlas(tmp_path / "atlas", [InputFile(tmp_path / "mixed.h5ad")], value_dtype="float32")
    remove_studies(tmp_path / "atlas", ["Y"])
    other = mixed.with_(
        values=MADE.values * 2, obs=MADE.obs.assign(study=np.array(["P", "Q"])[np.arange(37) % 2])
    )
    write_h5ad(tmp_path / "other.h5ad", other, study_field=None)
    # X of the first file is left alone; what would be copied of it must not reach the second file's studies
    report = build_atlas(tmp_path / "atlas", [InputFile(tmp_path / n) for n in ("mixed.h5ad", "other.h5ad")])
    assert (report.unchanged, report.added) == (["X"], ["Y", "P", "Q"])
    even, odd = MADE.values[::2], MADE.values[1::2]
    wanted = np.concatenate([2 * even, 2 * odd, even, odd])  # P, Q, X, Y
    np.testing.assert_array_equal(scores(tmp_path / "atlas"), wanted)


@given(of=st.lists(st.integers(0, 3), min_size=37, max_size=37), block=st.sampled_from([4, 10, 100]))
@settings(max_examples=15)
def test_any_mixture_of_studies(of: list[int], block: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("mixture")
    write_h5ad(
        folder / "a.h5ad", MADE.with_(obs=MADE.obs.assign(study=[f"s{i}" for i in of])), study_field=None
    )
    with blocks_of(block):
        build_atlas(folder / "atlas", [InputFile(folder / "a.h5ad")], value_dtype="float32")
    np.testing.assert_array_equal(scores(folder / "atlas"), MADE.values[np.argsort(of, kind="stable")])


def test_the_study_is_the_option_or_the_column_or_the_name_of_the_file(tmp_path: Path) -> None:
    def studies(**options: Any) -> list[str]:
        atlas = tmp_path / f"atlas{len(list(tmp_path.iterdir()))}"
        build_atlas(atlas, [InputFile(tmp_path / "lung.2024.h5ad", **options)])
        with Atlas.open(atlas) as opened:
            return [study.study for study in opened.studies()]

    made = MADE.with_(obs=MADE.obs.assign(batch=3))
    write_h5ad(tmp_path / "lung.2024.h5ad", made, study_field=None)
    assert studies() == ["lung"]
    assert studies(study="Lung atlas") == ["Lung atlas"]
    assert studies(study_field="batch") == ["3"]
    write_h5ad(tmp_path / "lung.2024.h5ad", made)
    assert studies() == ["A"]
    assert studies(study="Lung atlas") == ["Lung atlas"]


def test_a_matrix_is_read_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pieces = []
    read = AnnDataSource.read

    def recorded(self: AnnDataSource, first: int, last: int) -> csr_matrix:
        pieces.append((first, last))
        return read(self, first, last)

    monkeypatch.setattr(AnnDataSource, "read", recorded)
    monkeypatch.setattr("insignia_index.build.rows._CHUNK_ENTRIES", 5 * np.count_nonzero(MADE.values) // 37)
    write_h5ad(tmp_path / "a.h5ad", MADE)
    build_atlas(tmp_path / "atlas", [InputFile(tmp_path / "a.h5ad")])
    assert pieces[0][0] == 0
    assert pieces[-1][1] == 37
    assert all(a[1] == b[0] for a, b in pairwise(pieces))
    assert max(last - first for first, last in pieces) <= 6


def test_a_matrix_by_gene_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    write_h5ad(tmp_path / "a.h5ad", MADE, matrix=csc_matrix(MADE.values))
    with pytest.raises(UnsupportedMatrix):
        build_atlas(tmp_path / "atlas", [InputFile(tmp_path / "a.h5ad")])


def npz_with(folder: Path, cells: Path, **options: Any) -> Path:
    save_npz(folder / "a.npz", csr_matrix(MADE.values))
    (folder / "genes.txt").write_text("".join(f"{gene}\n" for gene in MADE.genes), "utf-8-sig")
    file = InputFile(folder / "a.npz", metadata=cells, genes=folder / "genes.txt", **options)
    build_atlas(folder / "atlas", [file])
    return folder / "atlas"


def test_studies_and_samples_of_a_table_are_text(tmp_path: Path) -> None:
    donors = [str(i % 2 + 1) if i else "" for i in range(37)]  # numbers, and one missing
    table = pd.DataFrame({"cell": MADE.obs.index, "study": "007", "donor": donors})
    table.to_csv(tmp_path / "cells.csv", index=False)
    with Atlas.open(npz_with(tmp_path, tmp_path / "cells.csv", sample_field="donor")) as atlas:
        assert [s.study for s in atlas.studies()] == ["007"]
        samples = atlas.search(["G1"], group_by="sample", min_cells=1).group_table["sample"].to_list()
        assert sorted(samples, key=str) == ["1", "2", None]


def test_a_parquet_table_that_was_filtered_has_its_ids_in_the_first_column(tmp_path: Path) -> None:
    table = MADE.obs.rename_axis("cell").reset_index()
    twice = pd.concat([table.assign(keep=0), table.assign(keep=1)], ignore_index=True)
    twice.query("keep == 1").iloc[::-1].to_parquet(tmp_path / "cells.parquet")
    with Atlas.open(npz_with(tmp_path, tmp_path / "cells.parquet", study="A")) as atlas:
        assert len(atlas.cells([("A", name) for name in MADE.obs.index])) == 37


def test_names_of_genes_are_stripped_as_those_of_signatures_are(tmp_path: Path) -> None:
    spaced = [f" {gene} " for gene in MADE.genes]
    write_h5ad(tmp_path / "a.h5ad", MADE.with_(genes=spaced))
    build_atlas(tmp_path / "atlas", [InputFile(tmp_path / "a.h5ad")], value_dtype="float32")
    np.testing.assert_array_equal(scores(tmp_path / "atlas"), MADE.values)
