"""Contributions add up to scores, and equal those of a dumb oracle."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from insignia_index import Atlas, CancelToken
from insignia_model import Explanation, SearchRequest
from insignia_model.errors import LimitExceeded, NoGeneResolved, SearchCancelled

from . import strategies
from .made import Study, blocks_of, build, study
from .oracle import Oracle, plain
from .test_search_oracle import FIELDS, made_atlas

#: Lists, bitmaps and full columns, and a gene without postings.
DENSITIES = [0.0, 0.01, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9, 1.0]


def dense(oracle: Oracle, gene: str) -> np.ndarray:
    """Attribution of a gene in every cell, float64."""
    parts = [
        made.values[:, list(made.genes).index(gene)].astype(np.float64)
        if gene in made.genes
        else np.zeros(len(made.obs))
        for made in oracle.studies
    ]
    return np.concatenate(parts)


@settings(max_examples=25)
@given(data=st.data())
def test_contributions_equal_the_oracles_and_add_up(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path, oracle, value_dtype = made_atlas(data, tmp_path_factory.mktemp("explain"))
    fields = [field for field in FIELDS if field in oracle.cells]
    with Atlas.open(path, threads=2, cache_bytes=data.draw(st.sampled_from([0, 1 << 20]))) as atlas:
        for _ in range(3):
            check(data, atlas, oracle, fields, value_dtype)


def check(data: st.DataObject, atlas: Atlas, oracle: Oracle, fields: list[str], value_dtype: str) -> None:
    weights = data.draw(strategies.weights(oracle.vocabulary))
    options: dict[str, Any] = {
        "k": data.draw(st.sampled_from([0, 1, 10, 1000])),
        "where": data.draw(strategies.conditions(fields)),
        "group_by": data.draw(st.lists(st.sampled_from(fields), max_size=2, unique=True)),
        "aggregate": data.draw(st.sampled_from(["mean", "sum"])),
        "min_coverage": data.draw(st.sampled_from([0.0, 0.5])),
        "min_cells": data.draw(st.sampled_from([1, 10])),
        "hits": data.draw(strategies.rules()),
    }
    explanation, result = atlas.explain(weights, **options), atlas.search(weights, **options)
    for name in ("n_cells", "n_hits", "cutoff", "genes", "group_by", "aggregate", "hits"):
        assert getattr(explanation, name) == getattr(result, name), name
    used = {gene: w for gene, w in weights.items() if w and gene in oracle.vocabulary}
    divisor = sum(map(abs, used.values())) if options["aggregate"] == "mean" else 1.0
    relative = 1e-3 if value_dtype == "float16" else 1e-6
    signed = any(weight < 0 for weight in used.values())
    check_cells(explanation, result, oracle, used, divisor, relative, signed)
    n_used = len(used)
    passes = oracle.passes(options["where"])
    passes &= (oracle.measured(weights) / n_used >= options["min_coverage"]).to_numpy()
    check_groups(explanation, result, oracle, used, divisor, relative, passes, signed)


def rounding(values: np.ndarray, relative: float) -> float:
    """What a sum of stored values may be off: their own rounding, and float16's fixed step far below."""
    return (
        float(relative * np.abs(values).sum() + (1e-9 * np.abs(values).max() if values.size else 0)) + 1e-30
    )


def check_cells(
    explanation: Explanation, result: Any, oracle: Oracle, used: Any, divisor: float, relative: float,
    signed: bool,
) -> None:  # fmt: skip
    cells = list(explanation.cell_table.rows())
    wanted = list(result.cell_table.rows())
    row_of = {
        key: i for i, key in enumerate(zip(oracle.cells["study"], oracle.cells["cell_id"], strict=True))
    }
    assert len(cells) == len(wanted)
    for table in (explanation.cell_table, result.cell_table):
        assert list(table.columns)[:3] == ["study", "cell_id", "score"]
        assert (list(table.columns)[3:5] == ["score_up", "score_down"]) == signed
    values = {gene: dense(oracle, gene) for gene in used}
    steps = {gene: 1e-9 * float(np.abs(v).max()) for gene, v in values.items()}
    rows = list(explanation.cell_gene_table.rows())
    assert len(rows) == len(cells) * len(used)
    for i, (cell, other) in enumerate(zip(cells, wanted, strict=True)):
        key = cell["study"], cell["cell_id"]
        assert key == (other["study"], other["cell_id"])
        assert cell["score"] == other["score"]
        mine = rows[i * len(used) : (i + 1) * len(used)]
        assert {row["gene"] for row in mine} == set(used)
        total = sum(abs(row["contribution"]) for row in mine)
        assert sum(row["contribution"] for row in mine) == pytest.approx(
            cell["score"], rel=1e-5, abs=1e-5 * total + 1e-37
        )
        if signed:
            for part in ("score_up", "score_down"):
                assert cell[part] == other[part]
            parts = cell["score_up"] + cell["score_down"]
            assert parts == pytest.approx(cell["score"], rel=1e-5, abs=1e-5 * total + 1e-37)
            up = sum(row["contribution"] for row in mine if row["weight"] > 0)
            assert cell["score_up"] == pytest.approx(up, rel=1e-9, abs=1e-12 * total)
        for row in mine:
            stored = values[row["gene"]][row_of[key]]
            assert row["value"] == pytest.approx(stored, rel=relative, abs=steps[row["gene"]])
            assert row["weight"] == pytest.approx(used[row["gene"]], rel=1e-12)
            assert row["contribution"] == pytest.approx(row["value"] * row["weight"] / divisor, rel=1e-9)
            check_share(row, total)
        check_strongest(cell, mine)


def check_share(row: dict[str, Any], total: float) -> None:
    if total == 0:
        assert row["share"] is None
    else:
        assert row["share"] == pytest.approx(row["contribution"] / total, rel=1e-9)


def check_strongest(found: dict[str, Any], mine: list[dict[str, Any]]) -> None:
    sizes = [abs(row["contribution"]) for row in mine]
    assert sizes == sorted(sizes, reverse=True)
    if sizes[0] == 0:
        assert (found["top_gene"], found["top_share"], found["n_effective_genes"]) == (None, None, None)
        return
    assert (found["top_gene"], found["top_share"]) == (mine[0]["gene"], mine[0]["share"])
    p = np.array([size / sum(sizes) for size in sizes if size])
    assert found["n_effective_genes"] == pytest.approx(np.exp(-(p * np.log(p)).sum()), rel=1e-9)


def check_groups(
    explanation: Explanation, result: Any, oracle: Oracle, used: Any, divisor: float, relative: float,
    passes: np.ndarray, signed: bool,
) -> None:  # fmt: skip
    by = list(explanation.group_by)
    searched = {tuple(row[f] for f in by): row for row in result.group_table.rows()}
    groups, rows = list(explanation.group_table.rows()), list(explanation.gene_table.rows())
    assert {tuple(row[f] for f in by) for row in groups} == searched.keys()
    assert len(rows) == len(groups) * len(used)
    columns = [[plain(value) for value in oracle.cells[field]] for field in by]
    keys = list(zip(*columns, strict=True)) if by else [()] * len(oracle.cells)
    values = {gene: dense(oracle, gene) for gene in used}
    step = {gene: 1e-9 * float(np.abs(v).max()) for gene, v in values.items()}
    means = [row["mean"] for row in groups]
    scale = max((abs(r["contribution"]) for r in rows), default=0.0) * len(used)
    assert all(a >= b - 1e-11 * scale for a, b in pairwise(means))
    for i, group in enumerate(groups):
        key = tuple(group[f] for f in by)
        mask = passes & np.array([k == key for k in keys])
        mine = rows[i * len(used) : (i + 1) * len(used)]
        total = sum(abs(row["contribution"]) for row in mine)
        for name in ("n_cells", "n_hits", "hit_fraction", "n_genes_measured"):
            assert group[name] == searched[key][name], name
        assert sum(row["contribution"] for row in mine) == pytest.approx(group["mean"], abs=1e-12 * total)
        assert (
            abs(group["mean"] - searched[key]["mean"])
            <= 1e-5 * sum(np.abs(v[mask]).mean() * abs(used[g]) for g, v in values.items()) / divisor + 1e-37
        )
        if signed:
            assert group["mean_up"] + group["mean_down"] == pytest.approx(group["mean"], abs=1e-12 * total)
        rest = passes & ~mask
        for row in mine:
            gene, v = row["gene"], values[row["gene"]]
            factor = used[gene] / divisor
            error = abs(factor) * (relative * np.abs(v[passes]).max() + step[gene]) + 1e-37
            assert abs(row["contribution"] - factor * v[mask].mean()) <= error
            if rest.any():
                above = factor * (v[mask].mean() - v[rest].mean())
                assert abs(row["above_rest"] - above) <= 3 * error
            else:
                assert row["above_rest"] is None
            check_share(row, total)
        check_strongest(group, mine)


def everything(explanation: Explanation) -> list[Any]:
    tables = ("cell_table", "cell_gene_table", "group_table", "gene_table", "gene_summary_table")
    rows = [[*map(repr, getattr(explanation, name).rows())] for name in tables]
    return [*rows, explanation.sentences, explanation.n_hits, explanation.cutoff]


@pytest.mark.parametrize("value_dtype", ["float16", "float32"])
@pytest.mark.parametrize("block_cells", [16, 65_536])
def test_the_number_of_threads_and_the_cache_change_nothing(
    tmp_path: Path, value_dtype: str, block_cells: int
) -> None:
    made = [study(name, 300, len(DENSITIES), density=DENSITIES, signed=True) for name in "ABC"]
    with blocks_of(block_cells):
        path = build(tmp_path, made, value_dtype=value_dtype)
    weights = {f"G{i}": (-1) ** i * (i + 0.3) for i in range(len(DENSITIES))}
    answers = []
    for threads, cache_bytes in ((1, 0), (2, 0), (4, 1 << 30)):
        with Atlas.open(path, threads=threads, cache_bytes=cache_bytes) as atlas:
            answers.append(everything(atlas.explain(weights, k=900, group_by=("study", "sample"))))
    assert answers[0] == answers[1] == answers[2]


@pytest.mark.parametrize("n_cells", [1, 15, 16, 31, 32, 33, 64, 1025, 65_536 + 700])
def test_values_are_the_stored_ones_for_every_container_and_number_of_cells(
    tmp_path: Path, n_cells: int
) -> None:
    made = study("A", n_cells, len(DENSITIES), density=DENSITIES, signed=True, seed=n_cells)
    with Atlas.open(build(tmp_path, [made], value_dtype="float32")) as atlas:
        table = atlas.explain(made.genes, k=min(n_cells, 3000)).cell_gene_table
    cells = np.array([int(name[1:]) for name in table["cell_id"].to_list()])
    genes = np.array([made.genes.index(name) for name in table["gene"].to_list()])
    np.testing.assert_array_equal(table["value"].values, made.values[cells, genes].astype(np.float64))
    assert len(table) == min(n_cells, 3000) * len(DENSITIES)


def test_no_cell_passes(tmp_path: Path) -> None:
    with Atlas.open(build(tmp_path, [study("A", 20, 5)])) as atlas:
        explanation = atlas.explain({"G0": 1, "G1": -1, "G2": 1}, where={"sample": "none such"})
        assert (explanation.n_cells, explanation.cutoff, explanation.sentences) == (0, None, ())
        for table in (explanation.cell_table, explanation.cell_gene_table, explanation.group_table):
            assert len(table) == 0
        assert len(explanation.gene_table) == 0
        assert explanation.gene_summary["contribution"].tolist() == [0, 0, 0]
        assert explanation.to_dict()["groups"] == []


def test_genes_that_are_not_there_are_reported_and_nothing_else_is_an_error(tmp_path: Path) -> None:
    with Atlas.open(build(tmp_path, [study("A", 20, 5)])) as atlas:
        assert atlas.explain(["G0", "NOSUCH"]).genes.missing == ("NOSUCH",)
        with pytest.raises(NoGeneResolved):
            atlas.explain(["NOSUCH"])


def test_more_rows_than_allowed_are_refused_before_the_work(tmp_path: Path) -> None:
    with Atlas.open(build(tmp_path, [study("A", 40, 5)])) as atlas:
        request = SearchRequest.of(["G0", "G1", "NOSUCH"], k=10, group_by="sample")
        assert len(atlas.run_explain(request, max_rows=20).cell_gene_table) == 20
        with pytest.raises(LimitExceeded, match="k times genes: 20 is over"):
            atlas.run_explain(request, max_rows=19)
        few = SearchRequest.of(["G0", "G1"], k=1, group_by="sample")
        with pytest.raises(LimitExceeded, match="groups times genes: 8 is over"):
            atlas.run_explain(few, max_rows=7)
        assert len(atlas.run_explain(few, max_rows=8).gene_table) == 8


def test_it_can_be_cancelled(tmp_path: Path) -> None:
    token = CancelToken()
    token.cancel()
    with Atlas.open(build(tmp_path, [study("A", 40, 5)])) as atlas, pytest.raises(SearchCancelled):
        atlas.run_explain(SearchRequest.of(["G0"]), cancel=token)


def of_values(values: list[list[float]], groups: list[str]) -> Study:
    """A study of 10 equal cells of each row of values (n_groups, n_genes), grouped by the field kind."""
    array = np.repeat(np.array(values, np.float32), 10, axis=0)
    kinds = [name for name in groups for _ in range(10)]
    return study("A", len(array), array.shape[1], kind=kinds).with_(values=array)


def test_one_gene_that_carries_the_first_group_is_named(tmp_path: Path) -> None:
    made = of_values([[8, 1, 1], [0, 3, 3], [0, 1, 1], [0, 0.5, 0.5]], ["high", "even", "low", "lowest"])
    with Atlas.open(build(tmp_path, [made], value_dtype="float32")) as atlas:
        explanation = atlas.explain(["G0", "G1", "G2"], k=10, group_by="kind")
    assert explanation.sentences == (
        "G0 alone makes 80 % of the mean score of high, the first of 4 groups; "
        "without it the first group would be even.",
        "G0 alone makes half or more of the score of 10 of the 10 best cells.",
    )
    summary = {row["gene"]: row for row in explanation.gene_summary_table.rows()}
    assert (summary["G0"]["top_group"], summary["G0"]["top_group_rank"]) == ("even", 2)
    assert (summary["G1"]["top_group"], summary["G1"]["top_group_rank"]) == ("high", 1)


def test_genes_without_which_another_group_is_first_are_named(tmp_path: Path) -> None:
    made = of_values([[2, 2, 2, 0], [0, 1.9, 1.9, 2], [0, 0.1, 0, 0]], ["first", "second", "third"])
    with Atlas.open(build(tmp_path, [made], value_dtype="float32")) as atlas:
        explanation = atlas.explain([f"G{i}" for i in range(4)], k=0, group_by="kind")
    assert explanation.sentences == ("Without G0 the first of the 3 groups would be second, not first.",)


def test_nothing_is_said_of_an_even_signature(tmp_path: Path) -> None:
    made = of_values([[3, 3, 3], [2, 2, 2], [1, 1, 1], [0, 0, 0]], ["a", "b", "c", "d"])
    with Atlas.open(build(tmp_path, [made])) as atlas:
        explanation = atlas.explain(["G0", "G1", "G2"], group_by="kind")
        assert explanation.sentences == ()
        assert explanation.gene_summary["rank_correlation"].tolist() == [1, 1, 1]
        assert atlas.explain(["G0"], group_by="kind").sentences == ()


def test_negative_weights_on_an_atlas_without_signs_are_told_of(tmp_path: Path) -> None:
    made = of_values([[1, 1, 1], [2, 2, 2]], ["a", "b"])
    with Atlas.open(build(tmp_path, [made])) as atlas:
        assert atlas.explain({"G0": 1.0, "G1": 1.0}, group_by="kind").sentences == ()
        told = atlas.explain({"G0": 1.0, "G1": -1.0}, group_by="kind").sentences
        assert "The attributions of this atlas have no sign" in told[-1]
    made.values[0, 0] = -1
    (tmp_path / "signed").mkdir()
    with Atlas.open(build(tmp_path / "signed", [made])) as atlas:
        told = atlas.explain({"G0": 1.0, "G1": -1.0}, group_by="kind").sentences
        assert not any("no sign" in sentence for sentence in told)


def test_small_groups_are_listed_but_not_ranked(tmp_path: Path) -> None:
    made = of_values([[1, 1, 1], [2, 2, 2]], ["a", "b"])
    made.values[16:] = 3
    cells = made.obs.assign(kind=["a"] * 10 + ["b"] * 6 + ["tiny"] * 4)
    with Atlas.open(build(tmp_path, [made.with_(obs=cells)])) as atlas:
        groups = atlas.explain(["G0", "G1", "G2"], group_by="kind", min_cells=5).groups
        assert groups["kind"].tolist() == ["tiny", "b", "a"]
        assert groups["rank"].fillna(0).tolist() == [0, 1, 2]
        none = atlas.explain(["G0", "G1"], group_by="kind", min_cells=50)
        assert none.gene_summary["top_group"].isna().all()
        assert none.sentences == ()
