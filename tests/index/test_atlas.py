"""The embedded API: what a researcher types."""

import shutil
import threading
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from insignia_index import (
    Atlas,
    HitRule,
    InputFile,
    ScreenRequest,
    SearchRequest,
    Signature,
    SimilarRequest,
    build_atlas,
)
from insignia_model.errors import (
    AtlasClosed,
    AtlasReplaced,
    CellNotFound,
    InvalidArgument,
    InvalidSignature,
    LimitExceeded,
    NoGeneResolved,
    StudyNotFound,
    UnknownField,
)

from .made import Study, blocks_of, build, study, write_h5ad
from .oracle import Oracle

MADE = [study("A", 30, 8, age=range(30)), study("B", 11, ["G3", "G100"])]


@pytest.fixture(scope="module")
def atlas(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Atlas]:
    with Atlas.open(build(tmp_path_factory.mktemp("api"), MADE, value_dtype="float32")) as opened:
        yield opened


def test_a_signature_is_a_list_a_mapping_or_a_signature(atlas: Atlas) -> None:
    genes = ["G1", "G3"]
    one = atlas.search(genes).cells
    for other in (
        tuple(genes),
        {"G1": 1, "G3": 1.0},
        Signature({"G1": 2.0, "G3": 2.0}, "mine"),
        [*genes, "G1"],
    ):
        np.testing.assert_array_equal(atlas.search(other).cells["score"], one["score"])
    assert atlas.search(Signature({"G1": 1.0}, "mine")).signature == "mine"


def test_genes_that_the_vocabulary_lacks_are_reported(atlas: Atlas) -> None:
    result = atlas.search(["G1", "nope", "G100", "neither"])
    assert result.genes.missing == ("nope", "neither")
    assert list(result.genes.resolved) == ["G1", "G100"]
    assert atlas.genes(["G1", "nope"]) == atlas.resolve_genes(["G1", "nope"])
    # they do not count in the mean
    np.testing.assert_array_equal(atlas.scores(["G1", "nope"]).values, atlas.scores(["G1"]).values)


def test_a_signature_that_says_nothing_is_refused(atlas: Atlas) -> None:
    for empty in ([], {}, {"G1": 0.0}, {"G1": float("nan")}, "G1"):
        with pytest.raises(InvalidSignature):
            atlas.search(empty)
    for unknown in (["nope"], {"nope": 1.0, "G1": 0.0}):
        with pytest.raises(NoGeneResolved, match="nope"):
            atlas.search(unknown)


@pytest.mark.parametrize("size", [1e-40, 1e-300, 1e40, 1e300])
def test_weights_of_any_size_give_the_same_mean(atlas: Atlas, size: float) -> None:
    plain = atlas.scores({"G1": 1.0, "G3": -3.0}).values
    np.testing.assert_allclose(atlas.scores({"G1": size, "G3": -3 * size}).values, plain, rtol=1e-12)


def test_a_sum_that_no_score_can_hold_is_refused(atlas: Atlas) -> None:
    with pytest.raises(InvalidArgument, match="mean"):
        atlas.search({"G1": 1e40}, aggregate="sum")


@pytest.mark.parametrize(
    ("options", "argument"),
    [
        ({"k": -1}, "k"),
        ({"aggregate": "median"}, "aggregate"),
        ({"hits": "percentile:101"}, "hits"),
        ({"hits": "best:3"}, "hits"),
        ({"hits": "top:0"}, "hits"),
        ({"min_cells": 0}, "min_cells"),
        ({"min_coverage": 2}, "min_coverage"),
        ({"group_by": ["study", "study"]}, "group_by"),
    ],
)
def test_a_value_out_of_range_names_its_argument(
    atlas: Atlas, options: dict[str, object], argument: str
) -> None:
    with pytest.raises(InvalidArgument) as caught:
        atlas.search(["G1"], **options)  # type: ignore[arg-type]
    assert caught.value.data["argument"] == argument


def test_cells_are_named_by_study_and_id(atlas: Atlas) -> None:
    cells = atlas.cells(["B:c3", ("A", "c29"), "A:c0", "B:c3"])
    assert [row["study"] + row["cell_id"] for row in cells.rows()] == ["Bc3", "Ac29", "Ac0", "Bc3"]
    assert cells["age"].to_list() == [None, 29, 0, None]
    assert len(atlas.cells([])) == 0
    for name, error in (("A:c30", CellNotFound), ("C:c0", StudyNotFound), ("c0", InvalidArgument)):
        with pytest.raises(error):
            atlas.cells([name])


def test_scores_come_in_chunks_of_one_study(tmp_path: Path) -> None:
    with blocks_of(8):
        path = build(tmp_path, MADE)
    with Atlas.open(path, threads=2) as atlas:
        chunks = [*atlas.iter_scores(["G3"], where={"age": list(range(0, 30, 7))}, cell_ids=True)]
        assert [chunk.cell_ids for chunk in chunks] == [("c0", "c7"), ("c14",), ("c21",), ("c28",)]
        assert [chunk.rows.tolist() for chunk in chunks] == [[0, 7], [14], [21], [28]]
        whole = np.concatenate([chunk.scores for chunk in atlas.iter_scores(["G3"])])
        np.testing.assert_array_equal(whole, atlas.scores(["G3"]).values)
        with pytest.raises(UnknownField):  # when it is asked, not when it is read
            atlas.iter_scores(["G3"], where={"organ": "lung"})


def test_hits_of_a_group_are_counted_over_all_its_cells_not_over_the_best(atlas: Atlas) -> None:
    result = atlas.search(["G3"], k=1, hits=HitRule.above(-1), group_by="study")
    assert {row["study"]: row["n_hits"] for row in result.group_table.rows()} == {"A": 30, "B": 11}
    assert len(result.cells) == 1


def test_a_sum_counts_every_gene(atlas: Atlas) -> None:
    oracle = Oracle(MADE)
    weights = {"G1": 2.0, "G100": -1.0}
    np.testing.assert_allclose(atlas.scores(weights, aggregate="sum").values, oracle.scores(weights, "sum"))
    assert atlas.search(weights, aggregate="sum").aggregate == "sum"


def test_hundreds_of_tiny_studies(tmp_path: Path) -> None:
    whole = study("all", 600, 12)
    edges = np.cumsum([0] + [1 + i % 3 for i in range(300)])
    names = [f"S{i:03}" for i in range(300)]
    obs = whole.obs.assign(study=np.repeat(names, np.diff(edges)))
    file = write_h5ad(tmp_path / "all.h5ad", whole.with_(obs=obs), study_field=None)
    build_atlas(tmp_path / "atlas", [InputFile(file)])
    made = [
        Study(name, whole.values[a:b], whole.genes, whole.obs.iloc[a:b])
        for name, (a, b) in zip(names, pairwise(edges), strict=True)
    ]
    oracle, weights = Oracle(made), {f"G{i}": 1.0 for i in range(12)}
    with Atlas.open(tmp_path / "atlas", threads=2) as atlas:
        error = np.abs(atlas.scores(weights).values - oracle.scores(weights))
        assert (error <= oracle.tolerance(weights, "mean", "float16")).all()
        groups = atlas.search(weights, k=10**6, group_by="study").group_table
        assert sorted(row["study"] for row in groups.rows()) == names
        assert "300 studies, 600 cells" in repr(atlas)
        atlas.warm()


def test_a_closed_atlas_says_so_and_stays_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    atlas = Atlas.open(build(tmp_path, [study("A")]))
    session, closing = atlas._session, threading.Thread(target=atlas.close)

    def slow(earlier: object) -> object:
        closing.start()
        closing.join(0.3)  # it waits
        assert closing.is_alive()
        return session

    monkeypatch.setattr("insignia_index.atlas.read_revision", lambda store: -1)
    monkeypatch.setattr(atlas, "_new_session", slow)
    assert atlas.refresh()
    closing.join(10)
    for use in (lambda: atlas.search(["G1"]), atlas.studies, atlas.refresh):
        with pytest.raises(AtlasClosed, match="is closed; open it again"):
            use()
    atlas.close()


def test_an_atlas_is_not_opened_with_no_thread(atlas: Atlas) -> None:
    for threads in (0, -3):
        with pytest.raises(InvalidArgument, match="threads"):
            Atlas.open(atlas.path, threads=threads)


def test_an_atlas_whose_directory_was_replaced_says_so_and_still_answers(tmp_path: Path) -> None:
    path, other = build(tmp_path, [study("A")]), tmp_path / "other"
    shutil.copytree(path, other)
    with Atlas.open(path) as atlas:
        assert not atlas.refresh()
        path.rename(tmp_path / "old")
        for _ in range(2):  # nothing there, then another one
            with pytest.raises(AtlasReplaced, match="another one was put in its place"):
                atlas.refresh()
            assert atlas.search(["G1"]).n_cells > 0
            if other.exists():
                other.rename(path)
        shutil.rmtree(path)
        (tmp_path / "old").rename(path)
        assert not atlas.refresh()


@pytest.mark.parametrize(("n_cells", "value"), [(1_000, 0.13809525), (60_000, 1 / 3)])
def test_scores_that_are_all_the_same_have_no_spread_and_no_hits(
    tmp_path: Path, n_cells: int, value: float
) -> None:
    made = study("A", n_cells, ["G1", "G2", "G3"])
    made.values[:] = value
    with Atlas.open(build(tmp_path, [made], value_dtype="float32")) as atlas:
        for z in (-2.0, 0.0, 1e-9, 2.0):
            result = atlas.search(["G1", "G2", "G3"], hits=HitRule.zscore(z))
            assert result.groups["sd"].tolist() == [0.0]
            assert (result.n_hits, result.cutoff) == (0, result.groups["max"][0])


def test_a_cut_off_among_cells_that_score_nothing_is_told(tmp_path: Path) -> None:
    made = study("A", 100, ["G1", "G2"])
    made.values[:] = 0
    made.values[:5, 0] = 1
    with Atlas.open(build(tmp_path, [made])) as atlas:
        assert atlas.search(["G1"], hits="top:5").notes == ()
        assert atlas.search(["G1"]).notes == ()
        found = atlas.search(["G1"], hits="top:6")
        assert (found.n_hits, found.cutoff) == (6, 0)
        assert "from their place in the atlas alone" in found.notes[0]
        assert found.notes[0] in repr(found)
        assert found.to_dict()["notes"] == list(found.notes)
        assert atlas.search(["G1"], hits="top:100").notes == ()


def test_too_many_groups_are_refused_before_a_cell_is_scored(
    atlas: Atlas, monkeypatch: pytest.MonkeyPatch
) -> None:
    def scored(*_: object) -> None:
        raise AssertionError

    for place in ("engine.score_all", "screening.score_all", "screening.score_signatures"):
        monkeypatch.setattr(f"insignia_index.search.{place}", scored)
    request = SearchRequest.of(["G1"], group_by="age")
    with pytest.raises(LimitExceeded, match="groups: 31 is over"):
        atlas.run(request, max_groups=30)
    with pytest.raises(LimitExceeded, match="groups: 31 is over"):
        atlas.run_similar(SimilarRequest.of(profile=["G1"], group_by="age"), max_groups=30)
    with pytest.raises(LimitExceeded, match="groups: 31 is over"):
        atlas.run_screen(ScreenRequest.of(group_by="age"), [Signature.of(["G1"])], max_groups=30)
    with pytest.raises(AssertionError):
        atlas.run(request, max_groups=100)
