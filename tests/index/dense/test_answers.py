"""Answers by FAISS against those of the exact engine, under every filter, and which engine answers when."""

import dataclasses
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from insignia_index import Atlas
from insignia_index.dense import recall, train
from insignia_index.dense.record import CurvePoint
from insignia_model import SearchRequest
from insignia_model.errors import AtlasCorrupt, EngineUnavailable

from .. import strategies
from ..made import Study, blocks_of, build, study
from ..oracle import Oracle
from ..test_search_oracle import FIELDS

POLICIES = ["projected", "exact"]


def scores_of(result: Any) -> np.ndarray:
    """Scores of the best cells."""
    return np.asarray(result.cell_table.columns["score"].values, np.float64)


def ids_of(result: Any) -> list[tuple[str, str]]:
    """Identities of the best cells."""
    frame = result.cells
    return list(zip(frame["study"].tolist(), frame["cell_id"].tolist(), strict=True))


@settings(max_examples=30)
@given(data=st.data())
def test_filters_are_honoured_and_scores_are_exact_by_every_engine(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    made = data.draw(strategies.studies())
    value_dtype = data.draw(st.sampled_from(["float16", "float32"]))
    policy = data.draw(st.sampled_from(POLICIES))
    with blocks_of(data.draw(st.sampled_from([8, 33, 65_536]))):
        path = build(tmp_path_factory.mktemp("faiss"), made, value_dtype=value_dtype, faiss=policy)
    oracle = Oracle(made)
    names = list(zip(oracle.cells["study"], oracle.cells["cell_id"], strict=True))
    with Atlas.open(path, threads=1) as atlas:
        for _ in range(3):
            where = data.draw(strategies.conditions([f for f in FIELDS if f in oracle.cells]))
            weights = data.draw(strategies.weights(oracle.vocabulary))
            k = data.draw(st.sampled_from([0, 1, 3, 10, 10_000]))
            aggregate = data.draw(st.sampled_from(["mean", "sum"]))
            options: dict[str, Any] = {"k": k, "where": where, "aggregate": aggregate}
            exact = atlas.search(weights, **options, engine="sparse")
            found = atlas.search(weights, **options, engine="faiss")
            assert (found.engine, found.n_hits, found.cutoff) == ("faiss", None, None)
            assert found.n_cells == exact.n_cells == oracle.passes(where).sum()
            passing = {name for name, passes in zip(names, oracle.passes(where), strict=True) if passes}
            assert set(ids_of(found)) <= passing
            assert len(set(ids_of(found))) == len(found.cells) == min(k, exact.n_cells)
            check_scores(atlas, weights, options, found)
            # so small an atlas is all candidates
            np.testing.assert_allclose(
                scores_of(found), scores_of(exact), **tolerance(atlas, weights, options)
            )
            assert found.exact
            assert found.expected_recall == 1.0


def tolerance(atlas: Atlas, weights: dict[str, float], options: dict[str, Any]) -> dict[str, float]:
    """Of float32 sums, whose terms may cancel."""
    positive = {gene: abs(weight) for gene, weight in weights.items()}
    largest = np.abs(atlas.scores(positive, aggregate=options["aggregate"]).values).max(initial=0)
    signed = max((float(np.abs(part).max(initial=0)) for part in _values(atlas)), default=0.0)
    divisor = 1.0 if options["aggregate"] == "sum" else sum(positive.values()) or 1.0
    terms = signed * sum(positive.values()) / divisor
    return {"rtol": 1e-5, "atol": 2e-6 * max(float(largest), terms) + 1e-37}


def _values(atlas: Atlas) -> Iterator[np.ndarray]:
    snapshot = atlas._session.snapshot
    for index, record in enumerate(snapshot.studies):
        names = snapshot.cell_names(np.full(record.n_cells, index), np.arange(record.n_cells))
        yield atlas.profiles([(record.study, name) for name in names])[1]


def check_scores(atlas: Atlas, weights: dict[str, float], options: dict[str, Any], found: Any) -> None:
    """What is answered are the cells' own exact scores, best first."""
    chunks = atlas.scores(weights, aggregate=options["aggregate"], cell_ids=True)
    exact = {
        (chunk.study, name): score
        for chunk in chunks
        for name, score in zip(chunk.cell_ids, chunk.scores.tolist(), strict=True)
    }
    scores = scores_of(found)
    np.testing.assert_allclose(
        scores, [exact[i] for i in ids_of(found)], **tolerance(atlas, weights, options)
    )
    assert (np.diff(scores) <= 0).all()


@pytest.fixture(scope="module")
def larger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """3,000 cells of three studies, in which cells of a type are alike."""
    made = [typed(name, 1000, seed) for seed, name in enumerate(["A", "B", "C"])]
    return build(tmp_path_factory.mktemp("larger"), made, faiss="projected")


def typed(name: str, n_cells: int, seed: int) -> Study:
    """Cells of five types, each of which expresses genes of its own strongly."""
    made = study(name, n_cells, 300, density=0.5, seed=seed)
    types = np.arange(n_cells) % 5
    for kind in range(5):
        made.values[np.ix_(types == kind, range(40 * kind, 40 * kind + 40))] *= 8
    return made.with_(obs=made.obs.assign(cell_type=[f"T{kind}" for kind in types]))


def test_similar_cells_are_found_as_the_recall_says(larger: Path) -> None:
    with Atlas.open(larger, threads=1) as atlas:
        for cell in ("A:c0", "B:c101", "C:c999"):
            exact = atlas.similar(cell, k=50)
            found = atlas.similar(cell, k=50, engine="faiss", recall_target=0.5)
            bound = scores_of(exact)[-1]
            recall_found = (scores_of(found) >= bound * (1 - 1e-5)).mean()
            assert recall_found >= found.expected_recall - 0.01
            assert not found.exact
            assert found.n_candidates is not None
            assert found.n_candidates < 3000
            assert tuple(cell.split(":")) not in ids_of(found)


def test_the_cells_of_the_query_and_their_study_are_left_out(larger: Path) -> None:
    with Atlas.open(larger) as atlas:
        cells = [f"A:c{i}" for i in range(0, 40, 5)]
        found = atlas.similar(cells, k=2_990, engine="faiss")
        assert found.n_cells == 2_992
        assert not set(ids_of(found)) & {("A", f"c{i}") for i in range(0, 40, 5)}
        assert len(found.cells) == 2_990
        others = atlas.similar(cells, k=5, engine="faiss", exclude_study=True, where={"cell_type": "T0"})
        assert set(others.cells["study"]) <= {"B", "C"}
        assert set(others.cells["cell_type"]) == {"T0"}
        centroid = atlas.similar(centroid={"cell_type": "T3"}, k=20, engine="faiss")
        assert set(centroid.cells["cell_type"]) == {"T3"}
        assert scores_of(centroid)[0] == pytest.approx(
            scores_of(atlas.similar(centroid={"cell_type": "T3"}))[0]
        )


def test_groups_are_exact_where_they_are_asked_for_and_else_absent(larger: Path) -> None:
    genes = [f"G{i}" for i in range(30)]
    with Atlas.open(larger) as atlas:
        exact = atlas.search(genes, group_by="cell_type", quantiles=True)
        without = atlas.search(genes, group_by="cell_type", engine="faiss")
        assert without.group_table.columns == {} == without.sample_table.columns
        for options in ({"groups": True}, {"quantiles": True}, {"compare": True}):
            asked = atlas.search(genes, group_by="cell_type", engine="faiss", **options)
            assert asked.engine == "faiss"
            assert (asked.n_hits, asked.cutoff) == (exact.n_hits, exact.cutoff)
            np.testing.assert_array_equal(asked.groups["hit_fraction"], exact.groups["hit_fraction"])


def test_auto_is_faiss_only_where_it_is_asked_for_measured_and_cheaper(larger: Path) -> None:
    with Atlas.open(larger) as atlas:
        dense = atlas._session.dense
        assert dense is not None
        measured = dense.record

        def engine(points: list[tuple[int, float, float]], **options: Any) -> str:
            curve = [CurvePoint(n, {"100": low}, {"100": low}, time) for n, low, time in points]
            dense.record = dataclasses.replace(measured, recall={"profile": curve})
            return atlas.similar("A:c0", **options).engine

        good = [(300, 0.9, 0.1), (1000, 0.995, 0.2)]
        assert engine(good, groups=False) == "faiss"
        assert engine(good) == engine(good, groups=True) == "sparse"
        assert engine(good, groups=False, quantiles=True) == "sparse"
        assert engine(good, groups=False, recall_target=1.0) == "sparse"
        assert engine(good, groups=False, k=200) == "sparse"  # of which nothing was measured
        assert engine([(300, 0.995, 1.2)], groups=False) == "sparse"  # takes longer
        # few cells pass: the exact engine reads as much less
        assert engine(good, groups=False, where={"study": "B", "cell_type": "T1"}) == "sparse"
        assert engine([], groups=False) == "sparse"
        found = atlas.similar("A:c0", groups=False, recall_target=0.85)
        assert found.engine == "sparse"
        dense.record = dataclasses.replace(
            measured, recall={"profile": [CurvePoint(n, {"100": low}, {"100": low}, t) for n, low, t in good]}
        )
        assert atlas.similar("A:c0", groups=False, recall_target=0.85).expected_recall == 0.9
        assert atlas.similar("A:c0", groups=False, recall_target=0.95).expected_recall == 0.995


def test_the_recall_that_can_be_counted_on() -> None:
    points = [
        CurvePoint(300, {"100": 0.9}, {"100": 0.7}, 0.1),
        CurvePoint(1000, {"100": 0.99, "1000": 0.8}, {"100": 0.95, "1000": 0.6}, 0.2),
        CurvePoint(3000, {"100": 1.0, "1000": 0.99}, {"100": 1.0, "1000": 0.9}, 0.3),
    ]
    assert recall.expected(points, 100, 299) == 0.0
    assert recall.expected(points, 50, 999) == 0.7
    assert recall.expected(points, 100, 5000) == 1.0
    assert recall.expected(points, 101, 5000) == 0.9
    assert recall.expected(points, 1001, 5000) == 0.0
    assert recall.expected(points, 100, 5000, is_filtered=True) == 0.9


def test_an_engine_that_cannot_answer_says_why(tmp_path: Path) -> None:
    made = [typed("A", 100, 0), typed("B", 100, 1)]
    path = build(tmp_path, made[:1])
    with Atlas.open(path) as atlas:
        with pytest.raises(EngineUnavailable, match="no FAISS indexes; make them with `insignia retrain`"):
            atlas.search(["G1"], engine="faiss")
        assert atlas.search(["G1"], groups=False).engine == "sparse"
        train.retrain(path, "projected")
        atlas.refresh()
        assert atlas.search(["G1"], engine="faiss").engine == "faiss"
    with Atlas.open(path) as atlas, pytest.MonkeyPatch.context() as patch:
        patch.setitem(__import__("sys").modules, "faiss", None)
        with pytest.raises(EngineUnavailable, match=r"pip install 'insignia\[faiss\]'"):
            atlas.search(["G1"], engine="faiss")
        assert atlas.similar("A:c0", groups=False).engine == "sparse"


def test_a_panel_of_real_width_equals_the_sparse_engine(tmp_path: Path) -> None:
    made = [study(name, 300, 500, density=0.4, seed=seed) for seed, name in enumerate("AB")]
    path = build(tmp_path, made, faiss="auto")
    rng = np.random.default_rng(0)
    with Atlas.open(path) as atlas:
        assert [info.faiss for info in atlas.studies()] == ["exact", "exact"]
        for _ in range(20):
            genes = [f"G{i}" for i in rng.choice(500, rng.integers(1, 80), replace=False)]
            exact, found = atlas.search(genes), atlas.search(genes, engine="faiss")
            assert (found.engine, found.exact) == ("faiss", True)
            np.testing.assert_allclose(scores_of(found), scores_of(exact), rtol=1e-5)
            assert atlas.search(genes, groups=False).engine == "faiss"


def test_a_panel_and_projected_studies_answer_together(tmp_path: Path) -> None:
    wide = study("wide", 200, 2_100, density=0.2)
    panel = study("panel", 100, 50, density=0.5)
    with Atlas.open(build(tmp_path, [wide, panel], faiss="auto")) as atlas:
        assert {info.study: info.faiss for info in atlas.studies()} == {"panel": "exact", "wide": "projected"}
        genes = [f"G{i}" for i in range(20)]
        exact = atlas.search(genes, k=300)
        found = atlas.search(genes, k=300, engine="faiss")
        np.testing.assert_allclose(scores_of(found), scores_of(exact), rtol=1e-5)
        assert SearchRequest.of(genes).engine == "auto"


@pytest.mark.parametrize("value_dtype", ["float16", "float32"])
def test_the_best_of_a_panel_are_found_where_terms_cancel(tmp_path: Path, value_dtype: str) -> None:
    rng = np.random.default_rng(0)
    made = study("A", 3000, 3)
    made.values[:, 0] = 600 + rng.normal(0, 20, 3000)
    made.values[:, 1] = made.values[:, 0] + rng.normal(0, 0.001, 3000)
    made.values[:, 2] = 0.01 * rng.random(3000)
    weights = {"G0": 0.1, "G1": -0.1, "G2": 0.001}
    with Atlas.open(build(tmp_path, [made], value_dtype=value_dtype, faiss="exact")) as atlas:
        values = atlas.profiles([("A", name) for name in made.obs.index])[1].astype(np.float64)
        exact = values @ np.array([weights[f"G{i}"] for i in range(3)])
        found = atlas.search(weights, k=20, engine="faiss")
        best = {f"c{i}" for i in np.argsort(-exact, kind="stable")[:20]}
        least = np.sort(exact)[-20]
        at = {name: i for i, name in enumerate(made.obs.index)}
        got = np.array([exact[at[name]] for name in found.cells["cell_id"]])
    assert (got >= least - 1e-9 * 600).all(), (best, found.cells)


def test_of_negative_weights_nothing_is_promised(larger: Path) -> None:
    with Atlas.open(larger) as atlas:
        signed = {f"G{i}": (-1.0) ** i for i in range(30)}
        found = atlas.search(signed, k=10, engine="faiss", recall_target=0.5)
        assert found.exact or found.expected_recall == 0
        assert atlas.search(signed, k=10, groups=False, recall_target=0.5).engine == "sparse"


@pytest.mark.parametrize("damage", ["gone", "folder"])
def test_auto_answers_exactly_without_files(larger: Path, tmp_path: Path, damage: str) -> None:
    path = tmp_path / "atlas"
    shutil.copytree(larger, path)
    index = next(path.glob("faiss/*/*.index"))
    index.unlink()
    if damage == "folder":
        index.mkdir()
    with Atlas.open(path) as atlas:
        assert atlas.search(["G1", "G2"], k=10, groups=False, recall_target=0.01).engine == "sparse"
        with pytest.raises(AtlasCorrupt, match="retrain"):
            atlas.search(["G1", "G2"], k=10, engine="faiss")
