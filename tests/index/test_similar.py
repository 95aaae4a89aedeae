"""Similar cells equal a dense product with the mean profile, whatever the data and the question."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from insignia_index import Atlas, CancelToken, SimilarRequest
from insignia_model import CellId, Condition
from insignia_model.errors import (
    CellNotFound,
    EmptyProfile,
    EngineUnavailable,
    InexactGenes,
    InvalidArgument,
    NoGeneResolved,
    SearchCancelled,
    StudyNotFound,
    UnknownField,
)

from . import strategies
from .made import Study, blocks_of, build, study
from .oracle import Oracle, best, groups, hits, plain, samples
from .test_search_oracle import FIELDS, check_cutoff, check_table


class Dense:
    """All attributions of an atlas as one matrix (n_cells, n_genes), float64, by the atlas's genes."""

    def __init__(self, atlas: Atlas, made: list[Study]) -> None:
        oracle = Oracle(made)
        self.cells = oracle.cells
        self.ids = [f"{s}:{c}" for s, c in zip(self.cells["study"], self.cells["cell_id"], strict=True)]
        genes, self.stored = atlas.profiles(self.pairs(range(len(self.ids))))
        self.given = np.zeros(self.stored.shape)
        first = 0
        for part in oracle.studies:
            columns = [genes.index(gene) for gene in part.genes]
            self.given[first : first + len(part.obs), columns] = part.values
            first += len(part.obs)
        self.genes = genes

    def pairs(self, rows: Any) -> list[tuple[str, str]]:
        """Identities of the cells of some rows."""
        studies, cells = self.cells["study"].tolist(), self.cells["cell_id"].tolist()
        return [(studies[i], cells[i]) for i in rows]


@settings(max_examples=25)
@given(data=st.data())
def test_profiles_are_the_rows_of_the_matrix(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    made = data.draw(strategies.studies())
    value_dtype = data.draw(st.sampled_from(["float16", "float32"]))
    with blocks_of(data.draw(st.sampled_from([8, 33, 65_536]))):
        path = build(tmp_path_factory.mktemp("profiles"), made, value_dtype=value_dtype)
    with Atlas.open(path) as atlas:
        dense = Dense(atlas, made)
        assert dense.stored.dtype == np.float32
        if value_dtype == "float32":
            np.testing.assert_array_equal(dense.stored, dense.given)
        else:
            largest = np.abs(dense.given).max(initial=0)
            np.testing.assert_allclose(dense.stored, dense.given, rtol=6e-4, atol=1e-9 * largest)
        some = data.draw(st.lists(st.integers(0, len(dense.ids) - 1), min_size=1, max_size=9, unique=True))
        np.testing.assert_array_equal(atlas.profiles(dense.pairs(some))[1], dense.stored[some])


@settings(max_examples=60)
@given(data=st.data())
def test_an_answer_equals_a_dense_product_with_the_mean_profile(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    made = data.draw(strategies.studies())
    value_dtype = data.draw(st.sampled_from(["float16", "float32"]))
    with blocks_of(data.draw(st.sampled_from([8, 33, 65_536]))):
        path = build(tmp_path_factory.mktemp("similar"), made, value_dtype=value_dtype)
    with Atlas.open(path, threads=data.draw(st.sampled_from([1, 2]))) as atlas:
        dense = Dense(atlas, made)
        for _ in range(3):
            check_similar(data, atlas, dense, Oracle(made))


def check_similar(data: st.DataObject, atlas: Atlas, dense: Dense, oracle: Oracle) -> None:
    fields = [field for field in FIELDS if field in oracle.cells]
    where = data.draw(strategies.conditions(fields))
    rule = data.draw(strategies.rules())
    group_by = data.draw(st.lists(st.sampled_from(fields), max_size=2, unique=True))
    k = data.draw(st.sampled_from([0, 1, 2, 10, 1000]))
    exclude = data.draw(st.booleans())
    query: dict[str, Any]
    passes = oracle.passes(where)
    if data.draw(st.booleans()):
        rows = data.draw(st.lists(st.integers(0, len(dense.ids) - 1), min_size=1, max_size=20))
        chosen = np.isin(np.arange(len(dense.ids)), rows)
        query = {"cells": dense.pairs(rows)}
        passes &= ~chosen
    else:
        centroid = data.draw(strategies.conditions(fields))
        chosen = oracle.passes(centroid)
        query = {"centroid": centroid}
    if exclude:
        passes &= ~oracle.cells["study"].isin(set(oracle.cells["study"][chosen])).to_numpy()
    stored = dense.stored.astype(np.float64)
    profile = stored[chosen].mean(axis=0) if chosen.any() else np.zeros(len(dense.genes))
    question = query | {"where": where, "group_by": group_by, "hits": rule, "exclude_study": exclude}
    if np.abs(profile).max(initial=0) <= 1e-12 * np.abs(stored).max(initial=0):
        if not profile.any():
            with pytest.raises(EmptyProfile):
                atlas.similar(**question)
        return

    result = atlas.similar(**question, k=10**6, quantiles=True, min_cells=3)
    assert (result.engine, result.aggregate, result.exact) == ("sparse", "sum", True)
    assert result.n_cells == passes.sum()
    assert result.genes.missing == ()
    if not passes.any():
        assert result.cutoff is None
        assert len(result.cell_table) == len(result.group_table) == 0
        return
    cells = oracle.cells[passes]
    place = {pair: i for i, pair in enumerate(zip(cells["study"], cells["cell_id"], strict=True))}
    order = [place[row["study"], row["cell_id"]] for row in result.cell_table.rows()]
    scores = np.empty(len(cells), result.cell_table["score"].values.dtype)
    scores[order] = result.cell_table["score"].values
    exact = stored[passes] @ profile
    # float32 sums of what weights rounded to float32 make; float64 sums in another order
    error = (1e-5 if scores.dtype == np.float32 else 1e-12) * (np.abs(stored[passes]) @ np.abs(profile))
    assert (np.abs(scores - exact) <= error + 1e-35).all()
    assert order == best(scores, len(scores)).tolist()

    check_cutoff(result.cutoff, scores, rule)
    measured = oracle.measured({dense.genes[g]: 1.0 for g in np.flatnonzero(profile)})[passes]
    cells = cells.assign(score=scores, hit=hits(scores, rule, result.cutoff), measured=measured)
    assert result.n_hits == cells["hit"].sum()
    check_table(result.group_table, group_by, groups(cells, group_by, 3), scores)
    keys = list(dict.fromkeys([*group_by, "study", "sample"]))
    check_table(result.sample_table, keys, samples(cells, keys), scores)
    first = [*atlas.similar(**question, k=k).cell_table.rows()]
    assert first == [*result.cell_table.rows()][:k]


@settings(max_examples=20)
@given(data=st.data())
def test_a_profile_is_a_search_with_its_values_as_weights(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    made = data.draw(strategies.studies())
    path = build(tmp_path_factory.mktemp("profile"), made)
    weights = data.draw(strategies.weights(Oracle(made).vocabulary))
    with Atlas.open(path, threads=2) as atlas:
        found = atlas.similar(profile=weights, k=7, group_by="sample")
        wanted = atlas.search(weights, k=7, group_by="sample", aggregate="sum")
    assert (found.n_hits, found.cutoff, found.genes) == (wanted.n_hits, wanted.cutoff, wanted.genes)
    assert [*map(repr, found.group_table.rows())] == [*map(repr, wanted.group_table.rows())]
    for row, other in zip(found.cell_table.rows(), wanted.cell_table.rows(), strict=True):
        assert {name: other[name] for name in row} == row


@pytest.mark.parametrize("value_dtype", ["float16", "float32"])
def test_the_answer_is_the_same_on_any_number_of_threads(tmp_path: Path, value_dtype: str) -> None:
    made = [study(name, 700, 5000, density=0.02, signed=True) for name in ("a", "b", "c")]
    with blocks_of(64):
        path = build(tmp_path, made, value_dtype=value_dtype)
    answers = []
    for threads in (1, 2, 4):
        with Atlas.open(path, threads=threads) as atlas:
            for query in (
                {"cells": [("a", f"c{i}") for i in range(0, 600, 7)]},
                {"centroid": {"study": "b"}},
            ):
                result = atlas.similar(**query, k=1000, group_by=("study", "sample"))
                answers.append([*map(repr, result.cell_table.rows()), *map(repr, result.group_table.rows())])
    assert answers[::2] == [answers[0]] * 3
    assert answers[1::2] == [answers[1]] * 3


def test_ties_go_to_the_smaller_study_and_row_and_the_query_is_not_found(tmp_path: Path) -> None:
    made = [study(name, 5, ["G"], density=1.0) for name in ("b", "a")]
    made = [m.with_(values=np.ones((5, 1), np.float32)) for m in made]
    with Atlas.open(build(tmp_path, made)) as atlas:
        result = atlas.similar("a:c2", k=6)
        assert result.n_cells == 9
        assert [*map("".join, zip(result.cells["study"], result.cells["cell_id"], strict=True))] == [
            "ac0", "ac1", "ac3", "ac4", "bc0", "bc1",
        ]  # fmt: skip
        assert result.genes.n_genes == 1
        others = atlas.similar("a:c2", exclude_study=True)
        assert (others.n_cells, set(others.cells["study"])) == (5, {"b"})
        everything = atlas.similar(centroid={"study": "a"})
        assert everything.n_cells == 10
        assert atlas.similar(centroid={"study": "a"}, exclude_study=True).n_cells == 5


def test_a_cell_that_is_named_twice_counts_once(tmp_path: Path) -> None:
    with Atlas.open(build(tmp_path, [study("A", 9)])) as atlas:
        twice = SimilarRequest(cells=(*[CellId("A", "c1")] * 3, CellId("A", "c2")))
        once = atlas.similar([("A", "c1"), ("A", "c2")])
        assert [*atlas.run_similar(twice).cell_table.rows()] == [*once.cell_table.rows()]
        assert once.signature == "cells like A:c1 and 1 other"


def test_a_study_of_one_cell_is_found_and_can_be_the_query(tmp_path: Path) -> None:
    made = [study("A", 1, density=1.0), study("B", 1, density=1.0)]
    with Atlas.open(build(tmp_path, made)) as atlas:
        assert atlas.similar("A:c0").cells["study"].tolist() == ["B"]
        assert atlas.similar("B:c0", where={"study": "B"}).n_cells == 0


def test_many_cells_are_looked_up_together(tmp_path: Path) -> None:
    with Atlas.open(build(tmp_path, [study("A", 40)])) as atlas:
        names = [f"A:c{i}" for i in range(39, 9, -1)]
        rows = atlas.profiles(names)[1]
        one_by_one = np.concatenate([atlas.profiles(name)[1] for name in names])
        np.testing.assert_array_equal(rows, one_by_one)
        with pytest.raises(CellNotFound, match="'c40'"):
            atlas.similar([*names, "A:c40"])


@pytest.fixture
def atlas(tmp_path: Path) -> Any:
    made = study("A", 30, ["CD14", "LYZ", "RIPOR2"], density=1.0)
    made.values[3] = 0
    with Atlas.open(build(tmp_path, [made, study("B", 10, ["CD14"], density=1.0)])) as opened:
        yield opened


@pytest.mark.parametrize(
    ("error", "question", "sentence"),
    [
        (StudyNotFound, {"cells": "no study:c1"}, "no study 'no study'"),
        (CellNotFound, {"cells": ["A:c1", "A:x"]}, "no cell 'x'"),
        (InvalidArgument, {"cells": "c1"}, "STUDY:CELL_ID"),
        (InvalidArgument, {"cells": []}, "there is none"),
        (InvalidArgument, {}, "none of them given"),
        (InvalidArgument, {"cells": "A:c1", "centroid": {"study": "A"}}, "2 of them given"),
        (InvalidArgument, {"profile": ["CD14"], "exclude_study": True}, "comes from no study"),
        (InvalidArgument, {"cells": "A:c1", "engine": "magic"}, "not one of auto, sparse, faiss"),
        (InvalidArgument, {"cells": "A:c1", "recall_target": 0.0}, "not above 0"),
        (InvalidArgument, {"cells": "A:c1", "k": -1}, "negative"),
        (
            EngineUnavailable,
            {"cells": "A:c1", "engine": "faiss"},
            "engine faiss: the atlas has no FAISS indexes",
        ),
        (EmptyProfile, {"cells": "A:c3"}, "A:c3: the cell has no attributions"),
        (EmptyProfile, {"centroid": {"study": "C"}}, "centroid of study=C: there are no such cells"),
        (UnknownField, {"centroid": {"no field": "x"}}, "no field"),
        (UnknownField, {"cells": "A:c1", "where": {"no field": "x"}}, "no field"),
        (UnknownField, {"cells": "A:c1", "group_by": "no field"}, "no field"),
        (NoGeneResolved, {"profile": ["no gene"]}, "no gene"),
        (InexactGenes, {"profile": ["FAM65B"], "strict": True}, "FAM65B"),
    ],
)
def test_what_cannot_be_answered_has_an_error_that_says_why(
    atlas: Atlas, error: type[Exception], question: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(error, match=sentence):
        atlas.similar(**question)


def test_the_engine_of_a_search_is_chosen_and_told(atlas: Atlas) -> None:
    for engine in ("auto", "sparse"):
        result = atlas.search(["CD14"], engine=engine, recall_target=0.5, groups=True)
        assert (result.engine, result.exact, result.n_candidates, result.expected_recall) == (
            "sparse", True, None, 1.0,
        )  # fmt: skip
        assert result.n_hits is not None
    with pytest.raises(EngineUnavailable):
        atlas.search(["CD14"], engine="faiss")
    with pytest.raises(InvalidArgument, match="engine"):
        atlas.search(["CD14"], engine="dense")


@pytest.mark.parametrize("query", [{"cells": "A:c1"}, {"centroid": {"study": "A"}}, {"profile": ["CD14"]}])
def test_a_cancelled_search_stops(atlas: Atlas, query: dict[str, Any]) -> None:
    token = CancelToken()
    token.cancel()
    with pytest.raises(SearchCancelled):
        atlas.run_similar(SimilarRequest.of(**query), cancel=token)
    assert atlas.similar(**query).n_cells > 0


def test_profiles_too_large_for_single_precision_are_refused_not_answered_wrong(tmp_path: Path) -> None:
    made = study("A", 5, ["G"], density=1.0)
    made = made.with_(values=made.values * np.float32(1e25))
    with (
        Atlas.open(build(tmp_path, [made])) as atlas,
        pytest.raises(InvalidArgument, match="does not fit a score"),
    ):
        atlas.similar("A:c1")
    with Atlas.open(build(tmp_path, [made], atlas="wide", value_dtype="float32")) as atlas:
        scores = atlas.similar("A:c1").cells["score"]
        assert np.isfinite(scores).all()
        assert scores[0] > 1e49


def test_more_profiles_than_fit_are_refused(atlas: Atlas, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("insignia_index.similarity.MOST_VALUES", 6)
    assert atlas.profiles(["A:c1", "A:c2"])[1].shape == (2, 3)
    with pytest.raises(InvalidArgument, match="3 are over the limit of 2"):
        atlas.profiles(["A:c1", "A:c2", "A:c3"])


def test_the_same_questions_of_a_filter_and_of_where_conditions_agree(atlas: Atlas) -> None:
    as_text = atlas.similar(centroid="study=A", where=["sample=A-s0,A-s1"])
    as_conditions = atlas.similar(
        centroid=[Condition("study", "in", ("A",))], where={"sample": ["A-s0", "A-s1"]}
    )
    assert [*as_text.cell_table.rows()] == [*as_conditions.cell_table.rows()]
    assert as_text.n_cells == 20
    assert pd.Series(as_text.cells["score"]).is_monotonic_decreasing
    assert plain(as_text.groups["n_cells"][0]) == 20
