"""The cut-off and the best cells of many cells, where a sample bounds what has to be looked at."""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest

from insignia_index import Atlas, HitRule
from insignia_index.search import scoring, select

from .made import Study, blocks_of, build, study
from .oracle import best, cutoff, hits

N_CELLS = 40_000
N_STUDIES = 3


def shapes() -> dict[str, np.ndarray]:
    """Scores in orders that a regular sample, or a bound from it, could be misled by."""
    n, rng = N_CELLS, np.random.default_rng(5)
    row = np.arange(n)
    stride = n // 4096
    return {
        "ascending": row / 64,
        "descending": row[::-1] / 64,
        "random": rng.integers(0, 1000, n) / 8,
        "heavy_tail": np.minimum(rng.pareto(0.5, n), 30_000),
        "periodic": 1.0 + row % stride,
        "peaks_that_the_sample_misses": np.where(row % stride == stride // 2, 1.0, 2.0 + row % 7),
        "peaks_that_only_the_sample_meets": np.where(row % stride == stride // 2, 9.0, 1.0),
        "one_value": np.full(n, 3.0),
        "two_values": np.where(rng.random(n) < 0.05, 2.0, 1.0),
        "nearly_all_zero": np.where(row % 1999 == 0, 1.0 + row % 5, 0.0),
        "negative": -1.0 - row % 11,
        "end": np.where(row > n - 200, 5.0, 1.0),
        "zero": np.zeros(n),
    }


SHAPES = shapes()


@pytest.fixture(scope="module", params=[("float16", 65_536), ("float32", 700)], ids=str)
def atlas(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Atlas]:
    """A gene a shape, over studies of unequal size."""
    values = np.stack(list(SHAPES.values()), axis=1).astype(np.float32)
    edges = [0, 25_000, 25_010, N_CELLS]
    made: list[Study] = []
    for i, (first, last) in enumerate(pairwise(edges)):
        rows = np.arange(first, last)
        stretch = [f"s{row // 2000}" for row in rows]
        one = study(f"study{i}", last - first, list(SHAPES), batch=rows % 10, stretch=stretch)
        made.append(one.with_(values=values[first:last]))
    value_dtype, block_cells = request.param
    with blocks_of(block_cells):
        path = build(tmp_path_factory.mktemp("many"), made, value_dtype=value_dtype)
    with Atlas.open(path, threads=2) as opened:
        yield opened


QUESTIONS = [
    ("percentile:95", 100), ("percentile:99.99", 0), ("percentile:99.99", 1000), ("percentile:0", 1),
    ("quantile:0.5", 7), ("top:3", 1), ("top:3", 50), ("top:17000", 5), ("value:1", 0), ("value:2.5", 100),
    ("zscore:2", 10), ("zscore:-9", 0), ("value:7", 39_999),
]  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES)
def test_cut_off_hits_and_best_cells_are_exact(atlas: Atlas, shape: str) -> None:
    scores = atlas.scores([shape]).values
    np.testing.assert_allclose(scores, SHAPES[shape], rtol=1e-3)
    for rule, k in QUESTIONS:
        check(atlas, shape, scores, HitRule.parse(rule), k)


def check(atlas: Atlas, shape: str, scores: np.ndarray, rule: HitRule, k: int) -> None:
    result = atlas.search([shape], k=k, hits=rule, group_by=())
    assert result.cutoff == pytest.approx(cutoff(scores, rule), rel=1e-9, abs=1e-9)
    assert result.n_hits == hits(scores, rule, result.cutoff or 0).sum()
    np.testing.assert_array_equal(result.cell_table["score"].values, scores[best(scores, k)])


@pytest.mark.parametrize("shape", SHAPES)
def test_candidates_that_several_tasks_collect_are_put_together(
    atlas: Atlas, shape: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (scoring, select):
        monkeypatch.setattr(module, "TASK_CELLS", 3000)
    scores = atlas.scores([shape]).values
    for rule, k in QUESTIONS:
        check(atlas, shape, scores, HitRule.parse(rule), k)


@pytest.mark.parametrize("shape", ["ascending", "random", "two_values", "end"])
def test_a_filter_leaves_the_best_of_the_cells_that_pass(atlas: Atlas, shape: str) -> None:
    scores = atlas.scores([shape]).values
    rows = np.flatnonzero(np.arange(N_CELLS) % 10 < 9)
    result = atlas.search([shape], k=500, where={"batch": range(9)}, hits="percentile:95")
    wanted = rows[best(scores[rows], 500)]
    starts = dict(zip((f"study{i}" for i in range(N_STUDIES)), (0, 25_000, 25_010), strict=True))
    found = [starts[row["study"]] + int(row["cell_id"][1:]) for row in result.cell_table.rows()]
    assert found == wanted.tolist()
    assert result.cutoff == np.percentile(scores[rows].astype(np.float64), 95)


def test_a_filter_that_leaves_blocks_far_apart(atlas: Atlas) -> None:
    scores = atlas.scores(["random"]).values
    rows = np.flatnonzero((np.arange(N_CELLS) // 2000) % 3 == 1)
    cells = {f"s{i}" for i in range(1, 20, 3)}
    result = atlas.search(["random"], k=50, where={"stretch": cells}, hits="percentile:90", group_by=())
    assert result.n_cells == len(rows)
    assert result.cutoff == np.percentile(scores[rows].astype(np.float64), 90)
    assert result.n_hits == (scores[rows] > result.cutoff).sum()
    np.testing.assert_array_equal(result.cell_table["score"].values, np.sort(scores[rows])[::-1][:50])
