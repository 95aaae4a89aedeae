"""An atlas imported from what sc-signature publishes has its cells, its scores and its metadata."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from insignia_index import Atlas, InputFile, Signature, build_atlas
from insignia_index.build.build import BuildOptions, BuildReport
from insignia_index.build.signature.importer import SignatureFolders, import_signature
from insignia_index.verify import verify_atlas

from .made import blocks_of, tree
from .published import made_cells, made_values, write_folder, write_genes

GOLDEN = Path(__file__).parents[1] / "golden" / "published"
ANSWERS: dict[str, Any] = json.loads((GOLDEN / "answers.json").read_text())
FOLDERS = sorted(ANSWERS["folders"])
EXACT = BuildOptions(value_dtype="float32")


def imported(atlas: Path, *paths: Path, options: BuildOptions = EXACT, **how: Any) -> BuildReport:
    return import_signature(atlas, SignatureFolders(paths, **how), options)


@pytest.fixture(scope="module")
def atlas(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Atlas]:
    path = tmp_path_factory.mktemp("published") / "atlas"
    imported(path, GOLDEN)
    with Atlas.open(path, threads=2) as opened:
        yield opened


def asked(name: str, answer: dict[str, Any]) -> Signature:
    weights = ANSWERS["weights"] if name == "weighted" else dict.fromkeys(answer["known"], 1.0)
    return Signature({gene: weights[gene] for gene in answer["known"]})


@pytest.mark.parametrize("name", ANSWERS["signatures"])
def test_scores_are_those_that_sc_signature_gives_for_the_same_arrays(atlas: Atlas, name: str) -> None:
    for folder in FOLDERS:
        answer = ANSWERS["folders"][folder][name]
        frame = atlas.scores(asked(name, answer), cell_ids=True).to_frame().set_index("cell_id")
        ids = [f"{folder}/{row}" for row in range(len(answer["scores"]))]
        np.testing.assert_allclose(frame.loc[ids, "score"], answer["scores"], rtol=1e-6)


@pytest.mark.parametrize("name", ANSWERS["signatures"])
def test_hits_of_a_cell_type_are_those_of_sc_signature(atlas: Atlas, name: str) -> None:
    for folder in FOLDERS:
        answer = ANSWERS["folders"][folder][name]
        n_hits = len(answer["hits"])
        result = atlas.search(
            asked(name, answer), k=n_hits, hits="percentile:80", where={"prediction": folder}
        )
        assert result.n_hits == n_hits
        assert set(result.cells["cell_id"]) == {f"{folder}/{row}" for row in answer["hits"]}


def test_all_metadata_is_kept_with_its_kinds_and_missing_values(atlas: Atlas) -> None:
    for folder in FOLDERS:
        wanted = pd.read_csv(GOLDEN / folder / "cell_metadata.csv.gz", index_col=0)
        pairs = [(study, f"{folder}/{row}") for row, study in enumerate(wanted["study"])]
        found = atlas.cells(pairs).to_frame()
        assert found["cell_id"].tolist() == [cell for _, cell in pairs]
        for name in wanted:
            a, b = found[name].astype(object), wanted[name].astype(object)
            assert a.isna().tolist() == b.isna().tolist(), name
            assert a[a.notna()].tolist() == b[b.notna()].tolist(), name


def test_sums_are_kept_by_sample_and_by_the_column_that_names_the_folder(atlas: Atlas) -> None:
    assert "cell_type" not in {field.field for field in atlas.fields()}
    result = atlas.search(["CD14", "LYZ"], group_by=["sample", "prediction"], null=True)
    assert np.isfinite(result.groups["null_z"]).all()


def test_the_folder_becomes_the_cell_type_where_no_column_tells_it(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("T cell", "B cell"):
        write_folder(tmp_path / "in" / name, made_values(rng, 4, 5), made_cells("AABB", label=["x"] * 4))
    write_genes(tmp_path / "in", [f"G{i}" for i in range(5)])
    imported(tmp_path / "atlas", tmp_path / "in")
    with Atlas.open(tmp_path / "atlas") as atlas:
        found = atlas.search(["G0"], group_by="cell_type", k=0).groups
    assert dict(zip(found["cell_type"], found["n_cells"], strict=True)) == {"B cell": 4, "T cell": 4}


@st.composite
def published(draw: st.DrawFn) -> tuple[list[list[str]], int, int, int, int]:
    """Studies of the cells of each folder, number of genes, of fragments, a seed, bytes of a buffer."""
    folder = st.lists(st.sampled_from(["A", "B", "lone", "C"]), min_size=1, max_size=12)
    folders = draw(st.lists(folder, min_size=1, max_size=3))
    numbers = (st.integers(1, 9), st.integers(1, 3), st.integers(0, 999), st.sampled_from([16, 64, 4096]))
    return (folders, *(draw(number) for number in numbers))


@given(made=published())
@settings(max_examples=25, deadline=None)
def test_every_cell_of_every_folder_is_in_its_study_in_order(
    tmp_path_factory: pytest.TempPathFactory, made: tuple[list[list[str]], int, int, int, int]
) -> None:
    folders, n_genes, n_fragments, seed, buffer_bytes = made
    path = tmp_path_factory.mktemp("made")
    rng = np.random.default_rng(seed)
    genes = [f"G{i}" for i in range(n_genes)]
    values, rows = [], []
    for i, studies in enumerate(folders):
        of = made_values(rng, len(studies), n_genes)
        of[rng.random(len(studies)) < 0.2] = 0  # cells
        of[:, rng.random(n_genes) < 0.2] = 0  # genes
        of[rng.integers(len(studies)), rng.integers(n_genes)] = 1
        table = made_cells(studies, age=rng.integers(0, 90, len(studies)))
        write_folder(path / "in" / f"f{i}", of, table, n_fragments=n_fragments)
        values.append(of)
        rows += [
            (study, i, row, age) for row, (study, age) in enumerate(zip(studies, table["age"], strict=True))
        ]
    write_genes(path / "in", genes)
    with blocks_of(8), pytest.MonkeyPatch.context() as patch:
        patch.setattr("insignia_index.build.signature.regroup.CHUNK_CELLS", 3)
        patch.setattr("insignia_index.build.signature.array.READ_ENTRIES", 7)
        patch.setattr("insignia_index.build.signature.array._BUFFER_BYTES", buffer_bytes)
        imported(path / "atlas", path / "in")
    rows.sort(key=lambda row: row[0].encode())  # stable: folder, then row
    verify_atlas(path / "atlas")
    with Atlas.open(path / "atlas", threads=1) as atlas:
        found = np.stack([atlas.scores([gene]).values for gene in genes], axis=1)
        frame = atlas.scores([genes[0]], cell_ids=True).to_frame()
        ages = atlas.cells(list(zip(frame["study"], frame["cell_id"], strict=True))).to_frame()["age"]
    np.testing.assert_array_equal(found, np.stack([values[i][row] for _, i, row, _ in rows]))
    assert frame["study"].tolist() == [row[0] for row in rows]
    assert [i.rpartition("/")[2] for i in frame["cell_id"]] == [str(row[2]) for row in rows]
    assert ages.tolist() == [row[3] for row in rows]


def test_the_last_cells_and_genes_may_have_no_entries(tmp_path: Path) -> None:
    values = np.zeros((5, 4), np.float32)
    values[1, 2] = 3
    write_folder(tmp_path / "f", values, made_cells("AAAAA"))
    imported(tmp_path / "atlas", tmp_path / "f", gene_order=write_genes(tmp_path, ["a", "b", "c", "d"]))
    with Atlas.open(tmp_path / "atlas") as atlas:
        assert atlas.scores(["c"]).values.tolist() == [0, 3, 0, 0, 0]


def test_an_array_without_any_entry_gives_cells_of_zeros(tmp_path: Path) -> None:
    write_folder(tmp_path / "f", np.zeros((2, 3), np.float32), made_cells("AA"))
    imported(tmp_path / "atlas", tmp_path / "f", gene_order=write_genes(tmp_path, ["a", "b", "c"]))
    with Atlas.open(tmp_path / "atlas") as atlas:
        assert atlas.scores(["a"]).values.tolist() == [0, 0]


def test_columns_are_of_one_kind_over_all_folders(tmp_path: Path) -> None:
    """A table at a time, pandas would take them for numbers, bools or floats."""
    rng = np.random.default_rng(0)
    tables = {
        "a": {"plate": ["007", "8"], "ok": [True, False], "n": [1, 2], "x": [1, 2], "late": [None, None]},
        "b": {"plate": ["P9", None], "ok": [True, None], "n": [3, None], "x": [0.5, 2], "late": ["L", "M"]},
        "c": {"plate": ["10", "11"], "ok": [None, None], "n": [5, 6], "x": [3, 4], "only": ["o", "p"]},
    }
    for name, fields in tables.items():
        write_folder(tmp_path / "in" / name, made_values(rng, 2, 3), made_cells("AB", **fields))
    write_genes(tmp_path / "in", ["G0", "G1", "G2"])
    imported(tmp_path / "atlas", tmp_path / "in")
    with Atlas.open(tmp_path / "atlas") as atlas:
        kinds = {field.field: field.kind for field in atlas.fields()}
        found = atlas.cells([("A", "a/0"), ("A", "b/0"), ("A", "c/0")]).to_frame()
    assert kinds == kinds | {"plate": "category", "ok": "bool", "x": "number", "late": "category"}
    assert found["plate"].tolist() == ["007", "P9", "10"]
    assert found["x"].tolist() == [1.0, 0.5, 3.0]
    assert found["only"].isna().tolist() == [True, True, False]


def test_ids_are_as_they_are_written_where_they_are_unique(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    table = made_cells("AABB", sample=list("stst"))
    write_folder(tmp_path / "in" / "f", made_values(rng, 4, 2), table.set_axis(["07", "NA", "07", "x"]))
    write_folder(tmp_path / "in" / "g", made_values(rng, 4, 2), table.set_axis(["1", "y", "z", "z"]))
    write_genes(tmp_path / "in", ["G0", "G1"])
    imported(tmp_path / "atlas", tmp_path / "in")
    with Atlas.open(tmp_path / "atlas") as atlas:
        frame = atlas.scores(["G0"], cell_ids=True).to_frame()
    of = {study: frame.loc[frame["study"] == study, "cell_id"].tolist() for study in "AB"}
    assert of["A"] == ["07", "NA", "1", "y"]
    # z stands twice in one folder: only the sample tells them apart
    assert of["B"] == ["f/s/07", "f/t/x", "g/s/z", "g/t/z"]


def test_an_import_again_is_no_work_and_a_new_folder_concerns_only_its_studies(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    write_folder(tmp_path / "in" / "f", made_values(rng, 4, 2), made_cells("AABB"))
    write_genes(tmp_path / "in", ["G0", "G1"])
    assert imported(tmp_path / "atlas", tmp_path / "in").added == ["A", "B"]
    before = tree(tmp_path)
    assert imported(tmp_path / "atlas", tmp_path / "in").unchanged == ["A", "B"]
    assert tree(tmp_path) == before
    write_folder(tmp_path / "in" / "g", made_values(rng, 2, 2), made_cells("BC"))
    report = imported(tmp_path / "atlas", tmp_path / "in", options=BuildOptions(replace=True))
    assert (report.added, report.replaced, report.unchanged) == (["C"], ["B"], ["A"])
    verify_atlas(tmp_path / "atlas")


def test_an_npz_that_sc_signature_saved_is_built_as_it_is(tmp_path: Path) -> None:
    file = InputFile(
        GOLDEN / "B cell.npz",
        metadata=GOLDEN / "B cell" / "cell_metadata.csv.gz",
        genes=GOLDEN / "gene_order.tsv",
    )
    build_atlas(tmp_path / "atlas", [file], value_dtype="float32")
    genes = (GOLDEN / "gene_order.tsv").read_text().split()
    with Atlas.open(tmp_path / "atlas") as atlas:
        sums = atlas.scores(genes, aggregate="sum", cell_ids=True).to_frame().set_index("cell_id")["score"]
    np.testing.assert_allclose(sums[[str(i) for i in range(88)]], 1000, rtol=1e-5)
    assert sums[["88", "89"]].tolist() == [0, 0]


def test_a_sample_that_is_named_as_the_folder_does_not_tell_the_cell_type(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("B", "T"):
        cells = made_cells(["A"] * 6, sample=[name] * 6, donor=["d1", "d2"] * 3)
        write_folder(tmp_path / "in" / name, made_values(rng, 6, 4), cells)
    write_genes(tmp_path / "in", [f"G{i}" for i in range(4)])
    imported(tmp_path / "atlas", tmp_path / "in")
    with Atlas.open(tmp_path / "atlas") as atlas:
        groups = atlas.search(["G0"], group_by="cell_type", min_cells=1).group_table
        assert sorted(groups["cell_type"].to_list()) == ["B", "T"]


def test_whole_numbers_that_float64_cannot_hold_stand_beside_others(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name, values in (("B", [2**53 + 1] * 3), ("T", [0.5] * 3)):
        write_folder(tmp_path / "in" / name, made_values(rng, 3, 4), made_cells(["A"] * 3, size=values))
    write_genes(tmp_path / "in", [f"G{i}" for i in range(4)])
    imported(tmp_path / "atlas", tmp_path / "in")
    with Atlas.open(tmp_path / "atlas") as atlas:
        assert set(atlas.search(["G0"]).cells["size"]) == {0.5, 2.0**53}
