"""Answers equal those of a dumb oracle, whatever the data and the question."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from insignia_index import Atlas, HitRule
from insignia_model import Condition

from . import strategies
from .made import blocks_of, build, study
from .oracle import Oracle, best, cutoff, groups, hits, plain, samples

FIELDS = ["study", "sample", "tissue", "age", "batch", "doublet", "n_umi"]


def made_atlas(data: st.DataObject, folder: Path) -> tuple[Path, Oracle, str]:
    made = data.draw(strategies.studies())
    value_dtype = data.draw(st.sampled_from(["float16", "float32"]))
    with blocks_of(data.draw(st.sampled_from([8, 33, 65_536]))):
        path = build(folder, made, value_dtype=value_dtype)
    return path, Oracle(made), value_dtype


@settings(max_examples=25)
@given(data=st.data())
def test_scores_are_the_weighted_means_and_sums_of_the_genes(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path, oracle, value_dtype = made_atlas(data, tmp_path_factory.mktemp("scores"))
    with Atlas.open(path, threads=2) as atlas:
        for _ in range(4):
            weights = data.draw(strategies.weights(oracle.vocabulary))
            aggregate = data.draw(st.sampled_from(["mean", "sum"]))
            scores = atlas.scores(weights, aggregate=aggregate, cell_ids=True)
            tolerance = oracle.tolerance(weights, aggregate, value_dtype)
            assert (np.abs(scores.values - oracle.scores(weights, aggregate)) <= tolerance).all()
            frame = scores.to_frame()
            for name in ("study", "row", "cell_id"):
                assert frame[name].tolist() == oracle.cells[name].tolist()
            assert scores.genes.missing == tuple(g for g in weights if g not in oracle.vocabulary)


@settings(max_examples=30)
@given(data=st.data())
def test_a_search_equals_numpy_and_pandas_over_the_scores(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path, oracle, _ = made_atlas(data, tmp_path_factory.mktemp("search"))
    fields = [field for field in FIELDS if field in oracle.cells]
    with Atlas.open(path, threads=2) as atlas:
        for _ in range(4):
            check_search(data, atlas, oracle, fields)


def check_search(data: st.DataObject, atlas: Atlas, oracle: Oracle, fields: list[str]) -> None:
    weights = data.draw(strategies.weights(oracle.vocabulary))
    where = data.draw(strategies.conditions(fields))
    rule = data.draw(strategies.rules())
    group_by = data.draw(st.lists(st.sampled_from(fields), max_size=3, unique=True))
    k = data.draw(st.sampled_from([0, 1, 2, 10, 1000]))
    coverage = data.draw(st.sampled_from([0.0, 0.0, 0.5, 1.0]))
    min_cells = data.draw(st.sampled_from([1, 3, 10]))

    cells = oracle.cells.assign(score=atlas.scores(weights).values, measured=oracle.measured(weights))
    n_used = sum(bool(weight) for gene, weight in weights.items() if gene in oracle.vocabulary)
    cells = cells[oracle.passes(where) & (cells["measured"] / n_used >= coverage)]
    result = atlas.search(
        weights, k=k, where=where, group_by=group_by, hits=rule, quantiles=True, min_cells=min_cells,
        min_coverage=coverage,
    )  # fmt: skip

    assert result.n_cells == len(cells)
    if cells.empty:
        assert result.cutoff is None
        assert len(result.cell_table) == len(result.group_table) == len(result.sample_table) == 0
        return
    scores = cells["score"].to_numpy()
    check_cutoff(result.cutoff, scores, rule)
    cells = cells.assign(hit=hits(scores, rule, result.cutoff))
    assert result.n_hits == cells["hit"].sum()
    check_best(result, cells.iloc[best(scores, k)])
    check_table(result.group_table, group_by, groups(cells, group_by, min_cells), scores)
    keys = list(dict.fromkeys([*group_by, "study", "sample"]))
    check_table(result.sample_table, keys, samples(cells, keys), scores)


def check_cutoff(found: float | None, scores: np.ndarray, rule: HitRule) -> None:
    wanted = cutoff(scores, rule)
    if rule.kind == "zscore":
        assert found == pytest.approx(wanted, abs=1e-6 * float(np.abs(scores).max()))
    else:
        assert found == wanted


def check_best(result: Any, wanted: pd.DataFrame) -> None:
    rows = list(result.cell_table.rows())
    assert [row["cell_id"] for row in rows] == wanted["cell_id"].tolist()
    np.testing.assert_array_equal(result.cell_table["score"].values, wanted["score"])
    for field in set(wanted) & set(FIELDS):
        assert [row[field] for row in rows] == [plain(value) for value in wanted[field]]


def check_table(table: Any, keys: list[str], wanted: dict[Any, dict[str, Any]], scores: np.ndarray) -> None:
    rows = {tuple(row[key] for key in keys): row for row in table.rows()}
    assert len(rows) == len(table)
    assert rows.keys() == wanted.keys()
    size = float(np.abs(scores.astype(np.float64)).max())
    for key, row in wanted.items():
        for name, value in row.items():
            found = rows[key][name]
            assert (np.nan if found is None else found) == pytest.approx(
                value, rel=1e-9, abs=1e-6 * size if name in ("mean", "sd") else 1e-12, nan_ok=True
            ), (key, name)


@pytest.mark.parametrize("value_dtype", ["float16", "float32"])
@pytest.mark.parametrize("block_cells", [16, 65_536])
def test_the_number_of_threads_changes_nothing(tmp_path: Path, value_dtype: str, block_cells: int) -> None:
    made = [study(name, 300, 40, density=np.linspace(0, 1, 40), signed=True) for name in "ABC"]
    with blocks_of(block_cells):
        path = build(tmp_path, made, value_dtype=value_dtype)
    weights = {f"G{i}": (-1) ** i * (i + 0.3) for i in range(40)}
    answers = []
    for threads in (1, 2, 4):
        with Atlas.open(path, threads=threads) as atlas:
            result = atlas.search(weights, k=1000, group_by=("study", "sample"), quantiles=True)
            tables = (result.cell_table, result.group_table, result.sample_table)
            answers.append([[*map(repr, table.rows())] for table in tables] + [result.cutoff])
    assert answers[0] == answers[1] == answers[2]


def test_ties_go_to_the_smaller_study_name_then_row(tmp_path: Path) -> None:
    made = [study(name, 5, ["G"], density=1.0) for name in ("b", "B", "Ä", "a")]
    made = [m.with_(values=np.ones((5, 1), np.float32)) for m in made]
    with Atlas.open(build(tmp_path, made)) as atlas:
        cells = atlas.search(["G"], k=12).cells
    assert cells["study"].tolist() == ["B"] * 5 + ["a"] * 5 + ["b"] * 2
    assert cells["cell_id"].tolist() == [f"c{i}" for i in (0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 0, 1)]


def test_a_coverage_that_is_met_exactly_passes(tmp_path: Path) -> None:
    genes = [f"G{i}" for i in range(100)]
    with Atlas.open(build(tmp_path, [study("A", 3, genes[:7]), study("B", 4, genes)])) as atlas:
        assert atlas.search(genes, min_coverage=0.07).n_cells == 7  # 0.07 * 100 is above 7
        assert atlas.search(genes, min_coverage=0.08).n_cells == 4


def test_every_k_gives_the_first_k_of_the_full_order(tmp_path: Path) -> None:
    made = study("A", 50, 3, density=0.5)
    with Atlas.open(build(tmp_path, [made])) as atlas:
        full = [*atlas.search(["G0", "G1"], k=10**9).cell_table.rows()]
        assert len(full) == 50
        for k in range(52):
            assert [*atlas.search(["G0", "G1"], k=k).cell_table.rows()] == full[:k]


def test_a_condition_on_a_missing_value_holds_only_for_missing_and_not_in(tmp_path: Path) -> None:
    path = build(tmp_path, [study("A", 2, ["G"], age=[1.0, np.nan]), study("B", 2, ["G"])])
    wanted = {"in": 1, "not in": 3, "<": 1, "<=": 1, ">": 0, ">=": 1, "missing": 3, "not missing": 1}
    with Atlas.open(path) as atlas:
        for op, n_cells in wanted.items():
            values = () if op.endswith("missing") else (1.0 if op != "<" else 2.0,)
            assert atlas.search(["G"], where=[Condition("age", op, values)]).n_cells == n_cells
