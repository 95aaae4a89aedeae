"""Adding, replacing and removing studies."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from insignia_index import Atlas, InputFile, build_atlas, remove_studies
from insignia_index.build.errors import FieldConflict, StudyExists, StudyTwice, UnreadableInput
from insignia_index.verify import verify_atlas
from insignia_model import ge
from insignia_model.errors import (
    CellNotFound,
    InvalidArgument,
    NoGeneResolved,
    StudyNotFound,
)

from .made import Study, build, study, tree, write_h5ad
from .oracle import Oracle


def file_of(folder: Path, made: Study, **options: Any) -> InputFile:
    return InputFile(write_h5ad(folder / f"{made.name}.h5ad", made), **options)


def names(path: Path) -> list[str]:
    with Atlas.open(path) as atlas:
        return [study.study for study in atlas.studies()]


def check_scores(path: Path, *made: Study) -> None:
    weights = {f"G{i}": 1.0 + i for i in range(0, 20, 3)}
    oracle = Oracle(made)
    with Atlas.open(path) as atlas:
        oracle.vocabulary = set(atlas._session.snapshot.genes)  # genes of removed studies stay
        error = np.abs(atlas.scores(weights).values - oracle.scores(weights))
    assert (error <= oracle.tolerance(weights, "mean", "float16")).all()
    verify_atlas(path)


def test_the_vocabulary_grows_with_new_genes(tmp_path: Path) -> None:
    old, new = study("B", genes=["G0", "G3", "G6"]), study("A", genes=["G18", "G3", "G15"])
    path = build(tmp_path, [old])
    report = build_atlas(path, [file_of(tmp_path, new)], create=False)
    assert (report.added, report.revision, report.n_cells) == (["A"], 2, 40)
    with Atlas.open(path) as atlas:
        snapshot = atlas._session.snapshot
        assert snapshot.genes == ["G0", "G3", "G6", "G18", "G15"]
        groups = {row["study"]: row for row in atlas.search(["G0", "G3", "G15", "G18"]).group_table.rows()}
        assert groups["B"]["n_genes_measured"] == 2
        assert groups["A"]["n_genes_measured"] == 3
        assert atlas.search(["G15"], group_by=()).group_table["n_genes_measured"].to_list() == [0]
        assert (atlas.scores(["G18"], where={"study": "B"}).values == 0).all()
    check_scores(path, old, new)


def test_many_additions_of_overlapping_genes(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    made = []
    for i in range(8):
        genes = [f"G{g}" for g in rng.permutation(20 + 15 * i)[: 10 + 5 * i]]
        made.append(study(f"S{i}", 5 + i, genes))
        build_atlas(tmp_path / "atlas", [file_of(tmp_path, made[-1])])
    check_scores(tmp_path / "atlas", *made)


def test_the_same_input_again_changes_nothing(tmp_path: Path) -> None:
    files = [file_of(tmp_path, study(name)) for name in "AB"]
    build_atlas(tmp_path / "atlas", files)
    before = tree(tmp_path / "atlas")
    for replace in (False, True):
        report = build_atlas(tmp_path / "atlas", files, replace=replace)
        assert (report.unchanged, report.added, report.replaced, report.revision) == (["A", "B"], [], [], 1)
    assert tree(tmp_path / "atlas") == before


def test_the_same_content_read_with_other_options_is_another_study(tmp_path: Path) -> None:
    made = study("A", 4, donor=[1, 1, 2, 2])
    build_atlas(tmp_path / "atlas", [file_of(tmp_path, made)])
    other = file_of(tmp_path, made, sample_field="donor", drop_fields=("sample",))
    with pytest.raises(StudyExists, match="'A'"):
        build_atlas(tmp_path / "atlas", [other])
    assert build_atlas(tmp_path / "atlas", [other], replace=True).replaced == ["A"]
    with Atlas.open(tmp_path / "atlas") as atlas:
        assert atlas.studies()[0].n_samples == 2


def test_two_files_of_one_build_cannot_hold_the_same_study(tmp_path: Path) -> None:
    write_h5ad(tmp_path / "1.h5ad", study("A"))
    write_h5ad(tmp_path / "2.h5ad", study("A", seed=1))
    with pytest.raises(StudyTwice, match=r"2\.h5ad"):
        build_atlas(tmp_path / "atlas", [InputFile(tmp_path / f"{i}.h5ad") for i in (1, 2)], replace=True)
    assert not (tmp_path / "atlas").exists()


def test_a_replaced_study_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    path = build(tmp_path, [study("A"), study("B")])
    new = study("A", 7, ["G3", "G100"], seed=9)
    with Atlas.open(path) as atlas:
        before = atlas.scores(["G3"]).values
        report = build_atlas(path, [file_of(tmp_path, new)], replace=True)
        assert (report.replaced, report.revision) == (["A"], 2)
        # an open atlas keeps its revision, though the files are gone
        np.testing.assert_array_equal(atlas.scores(["G3"]).values, before)
        assert len(atlas.cells([("A", "c39")])) == 1
        assert atlas.refresh() is True
        assert atlas.refresh() is False
        assert len(atlas.scores(["G3"])) == 47
        with pytest.raises(CellNotFound):
            atlas.cells([("A", "c39")])
    assert sorted(d.name for d in (path / "shards").iterdir()) == ["A@3", "B@2"]
    check_scores(path, new, study("B"))


def test_a_replaced_study_may_change_the_kind_of_its_own_field(tmp_path: Path) -> None:
    path = build(tmp_path, [study("A", 2, age=["young", "old"]), study("B", 2)])
    build_atlas(path, [file_of(tmp_path, study("A", 2, age=[20, 80]))], replace=True)
    with Atlas.open(path) as atlas:
        assert [field.kind for field in atlas.fields() if field.field == "age"] == ["integer"]
    build_atlas(path, [file_of(tmp_path, study("C", 2, age=[0.5, 1]))])  # integers and numbers mix
    with pytest.raises(FieldConflict, match="'C'"):
        build_atlas(path, [file_of(tmp_path, study("A", 2, age=["young", "old"]))], replace=True)


def test_removed_studies_are_gone_and_can_come_back(tmp_path: Path) -> None:
    made = [study(name, seed=1) for name in "ABC"]
    path = build(tmp_path, made)
    with Atlas.open(path) as atlas:
        before = atlas.scores(["G3"]).values
        assert remove_studies(path, ["B", "A", "B"]) == 2
        np.testing.assert_array_equal(atlas.scores(["G3"]).values, before)
    assert names(path) == ["C"]
    assert [d.name for d in (path / "shards").iterdir()] == ["C@3"]
    check_scores(path, made[2])
    build_atlas(path, [file_of(tmp_path, made[0])])
    check_scores(path, made[0], made[2])
    assert sorted(d.name for d in (path / "shards").iterdir()) == ["A@4", "C@3"]


def test_an_atlas_without_studies_is_still_an_atlas(tmp_path: Path) -> None:
    path = build(tmp_path, [study("A")])
    remove_studies(path, ["A"])
    with Atlas.open(path) as atlas:
        result = atlas.search(["G1"], quantiles=True)
        assert (result.n_cells, result.cutoff, len(result.cells), len(result.groups)) == (0, None, 0, 0)
        assert len(atlas.scores(["G1"])) == 0
        assert atlas.info().n_cells == 0
        assert [field.field for field in atlas.fields()] == ["study"]
        with pytest.raises(NoGeneResolved):
            atlas.search(["none"])
    verify_atlas(path)


def test_removing_an_unknown_study_removes_nothing(tmp_path: Path) -> None:
    path = build(tmp_path, [study("A")])
    before = tree(path)
    with pytest.raises(StudyNotFound, match="'B'"):
        remove_studies(path, ["A", "B"])
    assert tree(path) == before


def test_study_names_may_hold_anything_but_nul(tmp_path: Path) -> None:
    made = [study(name, 5) for name in ("..", "a/b", "a b", "ä" * 100, "x@1", ".staging", "A%2FB", "\n")]
    path = build(tmp_path, made)
    assert names(path) == sorted((m.name for m in made), key=str.encode)
    check_scores(path, *made)
    remove_studies(path, [".."])
    check_scores(path, *made[1:])


def test_the_value_dtype_is_fixed_when_the_atlas_is_made(tmp_path: Path) -> None:
    path = build(tmp_path, [study("A")], value_dtype="float32")
    with pytest.raises(InvalidArgument, match="float32"):
        build_atlas(path, [file_of(tmp_path, study("B"))], value_dtype="float16")
    with pytest.raises(InvalidArgument, match="float64"):
        build_atlas(path, [file_of(tmp_path, study("B"))], value_dtype="float64")
    build_atlas(path, [file_of(tmp_path, study("B"))])
    with Atlas.open(path) as atlas:
        assert atlas.info().value_dtype == "float32"
    with pytest.raises(InvalidArgument, match="files"):
        build_atlas(path, [])


def test_studies_keep_what_is_known_of_their_input(tmp_path: Path) -> None:
    made = study("A", 25, 6, density=1.0, signed=True)
    path = build(tmp_path, [made])
    with Atlas.open(path) as atlas:
        (about,) = atlas.studies()
        info = atlas.info()
    assert (about.n_cells, about.n_samples, about.n_postings, about.n_genes_measured) == (25, 3, 150, 6)
    assert (about.source, about.revision, about.signed) == ("0.h5ad", 1, True)
    assert (info.n_cells, info.n_genes, info.n_postings, info.signed, info.revision) == (25, 6, 150, True, 1)
    manifest = json.loads((path / "shards" / "A@1" / "manifest.json").read_text())
    assert (manifest["study"], manifest["n_postings"]) == ("A", 150)


def test_frames_have_the_rows_of_the_tables(tmp_path: Path) -> None:
    with Atlas.open(build(tmp_path, [study("A", age=np.arange(40.0))])) as atlas:
        result = atlas.search(["G1", "G2"], k=5, group_by=("study", "sample"))
    assert isinstance(result.cells, pd.DataFrame)
    assert result.cells["age"].tolist() == result.cell_table["age"].to_list()
    assert result.groups["sample"].tolist() == result.group_table["sample"].to_list()
    assert len(result.samples) == 4


def test_an_atlas_whose_last_study_was_removed_answers_with_nothing(tmp_path: Path) -> None:
    path = build(tmp_path, [study("A"), study("B")])
    with Atlas.open(path) as atlas:
        remove_studies(path, ["A", "B"])
        assert atlas.refresh()
        result = atlas.search(["G0"])
        assert (result.n_cells, result.cutoff) == (0, None)
        assert (len(result.cell_table), len(result.group_table)) == (0, 0)
        assert len(atlas.scores(["G0"])) == 0


@pytest.mark.parametrize("strange", ["shards/train-0000/data.bin", "notes.txt", "revision", "zarr.json"])
def test_a_directory_of_something_else_is_left_as_it_is(tmp_path: Path, strange: str) -> None:
    folder = tmp_path / "mine"
    (folder / strange).parent.mkdir(parents=True)
    (folder / strange).write_text("precious")
    before = tree(folder)
    with pytest.raises(
        InvalidArgument, match=r"directory of something else \(it has \S+\); name one that is new"
    ):
        build_atlas(folder, [file_of(tmp_path, study("A"))])
    assert tree(folder) == before
    assert [path.name for path in folder.iterdir()] == [strange.split("/")[0]]


def test_an_atlas_may_take_an_empty_directory(tmp_path: Path) -> None:
    (tmp_path / "atlas").mkdir()
    assert build_atlas(tmp_path / "atlas", [file_of(tmp_path, study("A"))]).added == ["A"]


def test_a_column_without_values_has_no_kind(tmp_path: Path) -> None:
    nothing = [None, None, None]
    studies = [
        study("A", 3, stage=np.full(3, np.nan), note=nothing),
        study("B", 3, stage=["I", "II", None], note=[1.0, 2.0, np.nan]),
        study("C", 3, stage=np.full(3, np.nan), note=nothing),
    ]
    path = build(tmp_path, studies[:2])
    build_atlas(path, [file_of(tmp_path, studies[2])])
    with Atlas.open(path) as atlas:
        fields = {field.field: (field.kind, field.n_cells) for field in atlas.fields()}
        assert (fields["stage"], fields["note"]) == (("category", 2), ("number", 2))
        groups = atlas.search(["G1"], group_by="stage", min_cells=1).group_table
        counts = dict(zip(groups["stage"].to_list(), groups["n_cells"].to_list(), strict=True))
        assert counts == {"I": 1, "II": 1, None: 7}
        assert atlas.search(["G1"], where="stage=I").n_cells == 1
        assert atlas.search(["G1"], where={"note": ge(2)}).n_cells == 1
        cells = {(row["study"], row["stage"], row["note"]) for row in atlas.search(["G1"]).cell_table.rows()}
        assert {("A", None, None), ("B", "II", 2.0), ("C", None, None)} <= cells
    assert verify_atlas(path)


def test_genes_of_a_study_that_is_gone_are_missing(tmp_path):
    path = build(tmp_path, [study("A", 30, ["QX0"], density=1.0), study("B", 30, ["QX1"], density=1.0)])
    alone = build(tmp_path, [study("A", 30, ["QX0"], density=1.0)], atlas="alone")
    remove_studies(path, ["B"])
    with Atlas.open(path) as atlas, Atlas.open(alone) as other:
        found, wanted = (a.search(["QX0", "QX1"]).to_dict() for a in (atlas, other))
        assert found | {"elapsed_ms": 0} == wanted | {"elapsed_ms": 0}
        assert found["genes"]["missing"] == ["QX1"]
        assert atlas.info().n_genes == 1
        atlas.warm()
    build_atlas(path, [InputFile(write_h5ad(tmp_path / "b.h5ad", study("B", 30, ["QX1"], density=1.0)))])
    with Atlas.open(path) as atlas:
        assert atlas.search(["QX0", "QX1"]).genes.missing == ()


def test_a_number_is_what_was_written_however_wide_a_study_stores_it(tmp_path):
    ages = [np.array([0.1] * 30, np.float32), np.array([0.1, 0.123456789] * 15)]
    made = [study(name, 30, density=1.0, age=age) for name, age in zip("AB", ages, strict=True)]
    with Atlas.open(build(tmp_path, made)) as atlas:
        together, alone = atlas.cells(["A:c0", "B:c0", "B:c1"]), atlas.cells(["A:c0"])
        assert together["age"].to_list() == [0.1, 0.1, 0.123456789]
        assert alone["age"].to_list() == [0.1]
        assert atlas.search(["G1"], k=60).cells.age.nunique() == len(
            atlas.search(["G1"], group_by="age").groups
        )


def test_a_field_is_counted_in_the_studies_that_have_a_value_of_it(tmp_path):
    made = [study("A", 10, tissue=["blood"] * 10), study("B", 10, tissue=[None] * 10)]
    with Atlas.open(build(tmp_path, made)) as atlas:
        found = {field.field: field for field in atlas.fields()}["tissue"]
    assert (found.n_studies, found.n_cells, found.values) == (1, 10, (("blood", 10),))


def test_more_cell_ids_than_a_study_can_have_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("insignia_index.catalog.columns.MOST_ID_BYTES", 100)
    path = build(tmp_path, [study("few", 5)])
    with pytest.raises(UnreadableInput, match=r"study 'many': the cell ids take \d+ bytes.*shorten them"):
        build(tmp_path, [study("many", 50)])
    with Atlas.open(path) as atlas:
        assert [s.study for s in atlas.studies()] == ["few"]
