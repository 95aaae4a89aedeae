"""Candidates, the cut-off, the hits and the best cells, against numpy."""

import math
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from insignia_index.kernels.collect import choose, collect, sampled_bound
from insignia_index.kernels.compare import LANES

from .oracle import best

DTYPES = [np.float32, np.float64]


def starts(sizes: list[int]) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)


@dataclass(frozen=True)
class Candidates:
    """Some rows of several blocks, ascending, their values, and the slots of all rows."""

    rows: np.ndarray
    values: np.ndarray
    block_starts: np.ndarray
    codes: np.ndarray
    slot_starts: np.ndarray

    def top(self, n: int) -> "Candidates":
        """At least the n best, as a bound would leave them."""
        kept = self.values >= np.sort(self.values)[len(self.values) - n]
        return Candidates(self.rows[kept], self.values[kept], self.block_starts, self.codes, self.slot_starts)

    def choose(
        self, *, k: int = 0, cutoff: float = 0.0, rank: int = -1, share: float = 0.0, n_best: int = -1
    ) -> tuple[float, np.ndarray, np.ndarray]:
        """Cut-off, rows that are hits and rows of the best; checks what else `choose` says of these."""
        slot_hits = np.arange(self.slot_starts[-1])
        found, n_hits, rows, values = choose(
            self.rows, self.values, k, cutoff, rank, share, n_best,
            self.block_starts, self.codes, self.slot_starts, slot_hits,
        )  # fmt: skip
        of_row = dict(zip(self.rows.tolist(), self.values.tolist(), strict=True))
        assert values.tolist() == [of_row[row] for row in rows.tolist()]
        assert values.dtype == self.values.dtype
        assert n_hits == (slot_hits - np.arange(len(slot_hits))).sum()
        return found, slot_hits, rows

    def slot_hits(self, is_hit: np.ndarray) -> np.ndarray:
        """The hits of each slot, on top of what `choose` starts from."""
        block = np.searchsorted(self.block_starts, self.rows, side="right") - 1
        slots = self.slot_starts[block] + self.codes[self.rows]
        n_slots = self.slot_starts[-1]
        return np.bincount(slots[is_hit], minlength=n_slots) + np.arange(n_slots)


@st.composite
def candidates(draw: st.DrawFn, dtype: type) -> Candidates:
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    sizes = draw(st.lists(st.integers(1, 25), min_size=1, max_size=6))
    n_slots = [int(rng.integers(1, size + 1)) for size in sizes]
    codes = [rng.integers(0, slots, size) for slots, size in zip(n_slots, sizes, strict=True)]
    n_cells = sum(sizes)
    rows = np.flatnonzero(rng.random(n_cells) < draw(st.sampled_from([0.2, 0.8, 1.0])))
    rows = rows if len(rows) else np.array([n_cells - 1])
    values = {
        "spread": rng.lognormal(0, 8, len(rows)) * rng.choice([-1, 1], len(rows)),
        "ties": rng.choice([-1.0, -0.0, 0.0, 0.1, 2.0], len(rows)),
        "one value": np.full(len(rows), 0.1),
    }[draw(st.sampled_from(["spread", "ties", "one value"]))]
    slots = starts(n_slots)
    return Candidates(
        rows, values.astype(dtype), starts(sizes), np.concatenate(codes).astype(np.uint16), slots
    )


@pytest.mark.parametrize("dtype", DTYPES)
@settings(max_examples=40)
@given(data=st.data())
def test_the_best_are_the_first_of_a_stable_sort(dtype: type, data: st.DataObject) -> None:
    made = data.draw(candidates(dtype))
    n = len(made.rows)
    for k in {0, 1, n // 2, max(n - 1, 0), n}:
        rows = made.choose(k=k)[2]
        assert rows.tolist() == made.rows[best(made.values, k)].tolist()


@pytest.mark.parametrize("dtype", DTYPES)
@settings(max_examples=80)
@given(data=st.data())
def test_a_cut_off_between_two_ranks_is_numpys_quantile(dtype: type, data: st.DataObject) -> None:
    made = data.draw(candidates(dtype))
    n = len(made.rows)
    q = data.draw(st.one_of(st.floats(0, 1), st.sampled_from([0.0, 0.25, 0.5, 0.95, 1.0])))
    position = q * (n - 1)
    rank, share = math.floor(position), position - math.floor(position)
    wanted = np.quantile(made.values.astype(np.float64), q)
    # those below the rank are in nobody's way, and may be left out
    for some in (made, made.top(n - rank)):
        cutoff, slot_hits, _ = some.choose(rank=rank - (n - len(some.rows)), share=share)
        assert cutoff == wanted
        assert slot_hits.tolist() == some.slot_hits(some.values.astype(np.float64) > wanted).tolist()


@pytest.mark.parametrize("dtype", DTYPES)
@settings(max_examples=40)
@given(data=st.data())
def test_so_many_best_are_hits_and_ties_go_to_the_lower_row(dtype: type, data: st.DataObject) -> None:
    made = data.draw(candidates(dtype))
    n_best = data.draw(st.integers(1, len(made.rows)))
    order = best(made.values, n_best)
    is_hit = np.zeros(len(made.rows), bool)
    is_hit[order] = True
    for some, hit in ((made, is_hit), (made.top(n_best), is_hit[np.isin(made.rows, made.top(n_best).rows)])):
        # a given cut-off counts for nothing then
        cutoff, slot_hits, _ = some.choose(n_best=n_best, cutoff=1e9)
        assert cutoff == made.values[order[-1]]
        assert slot_hits.tolist() == some.slot_hits(hit).tolist()
        assert slot_hits.sum() - np.arange(len(slot_hits)).sum() == n_best


@pytest.mark.parametrize("dtype", DTYPES)
@settings(max_examples=40)
@given(data=st.data())
def test_hits_are_strictly_above_a_given_cut_off(dtype: type, data: st.DataObject) -> None:
    made = data.draw(candidates(dtype))
    cutoff = data.draw(st.one_of(st.sampled_from([*made.values.tolist(), 0.1]), st.floats(-3, 3)))
    found, slot_hits, _ = made.choose(cutoff=cutoff)
    assert found == cutoff
    assert slot_hits.tolist() == made.slot_hits(made.values.astype(np.float64) > cutoff).tolist()


def test_a_single_score_is_compared_with_the_cut_off_in_double_precision() -> None:
    one = Candidates(np.array([0]), np.float32([0.1]), starts([1]), np.zeros(1, np.uint16), starts([1]))
    assert one.choose(cutoff=0.1)[1].tolist() == [1]  # float32(0.1) is a little more than 0.1
    assert one.choose(cutoff=float(np.float32(0.1)))[1].tolist() == [0]


def test_no_candidates_are_no_hits() -> None:
    none = Candidates(np.empty(0, np.int64), np.empty(0), starts([3]), np.zeros(3, np.uint16), starts([1]))
    cutoff, slot_hits, rows = none.choose(cutoff=2.5)
    assert (cutoff, slot_hits.tolist(), rows.tolist()) == (2.5, [0], [])


@st.composite
def blocks(draw: st.DrawFn, dtype: type) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores, NaN where filtered out, starts of the blocks and those to visit; all others would count."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    # steps are of 16 cells
    sizes = draw(st.lists(st.sampled_from([1, 2, 15, 16, 17, 31, 32, 33, 70]), min_size=1, max_size=6))
    block_starts = starts(sizes)
    scores = rng.choice([-2.0, -0.0, 0.0, 0.5, 1.0, 1e30], block_starts[-1]).astype(dtype)
    scores[rng.random(len(scores)) < draw(st.sampled_from([0.0, 0.3, 1.0]))] = np.nan
    visited = np.flatnonzero(rng.random(len(sizes)) < 0.7)
    for block in set(range(len(sizes))) - set(visited.tolist()):
        scores[block_starts[block] : block_starts[block + 1]] = np.inf
    return scores, block_starts, visited


def rows_of(block_starts: np.ndarray, visited: np.ndarray) -> np.ndarray:
    runs = [np.arange(block_starts[block], block_starts[block + 1]) for block in visited]
    return np.concatenate([np.empty(0, np.int64), *runs])


@pytest.mark.parametrize("dtype", DTYPES)
@settings(max_examples=60)
@given(data=st.data())
def test_collected_are_the_rows_of_the_blocks_at_or_above_the_bound(dtype: type, data: st.DataObject) -> None:
    scores, block_starts, visited = data.draw(blocks(dtype))
    rows = rows_of(block_starts, visited)
    for bound in (-np.inf, -2.0, 0.0, 0.25, 1.0, np.inf):
        room = len(scores) + LANES
        found, values = np.empty(room, np.int64), np.empty(room, dtype)
        n = collect(scores, visited, block_starts, dtype(bound), found, values)
        wanted = rows[scores[rows] >= bound]
        assert found[:n].tolist() == wanted.tolist()
        assert values[:n].tobytes() == scores[wanted].tobytes()


def bound_of(
    scores: np.ndarray, visited: list[int], block_starts: np.ndarray, stride: int, share: float
) -> float:
    sample = np.empty(len(scores) // stride + 1, scores.dtype)
    return float(sampled_bound(scores, np.array(visited, np.int64), block_starts, stride, share, sample))


@pytest.mark.parametrize("dtype", DTYPES)
@settings(max_examples=40)
@given(data=st.data())
def test_a_bound_is_a_rank_of_every_so_many_of_the_rows_without_nan(dtype: type, data: st.DataObject) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    block_starts = starts(rng.integers(1, 90, 12).tolist())
    scores = rng.normal(0, 1, block_starts[-1]).astype(dtype)
    scores[rng.random(len(scores)) < rng.choice([0.0, 0.5, 0.95])] = np.nan
    visited = np.flatnonzero(rng.random(12) < 0.8)
    stride, share = data.draw(st.integers(1, 7)), data.draw(st.floats(0.001, 0.5))

    sample = scores[rows_of(block_starts, visited)][stride // 2 :: stride]
    sample = np.sort(sample[~np.isnan(sample)])
    n_reach = share * len(sample)
    rank = math.ceil(n_reach + 4 * math.sqrt(n_reach * (1 - share)) + 8)
    wanted = -np.inf if rank >= len(sample) else sample[len(sample) - rank]
    assert bound_of(scores, visited.tolist(), block_starts, stride, share) == wanted


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_bound_leaves_what_is_needed_and_not_much_more(dtype: type) -> None:
    n, rng = 100_000, np.random.default_rng(6)
    scores = rng.normal(0, 1, n).astype(dtype)
    filtered_out = rng.random(n) < 0.5
    scores[filtered_out] = np.nan
    n_passing = n - filtered_out.sum()
    for needed in (1, 100, 2500, 20_000):
        stride = n_passing // 4096
        bound = bound_of(scores, [0, 1], starts([60_000, 40_000]), stride, needed / n_passing)
        assert needed <= (scores >= bound).sum() <= 1.4 * needed + 400


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_bound_that_the_sample_cannot_give_is_minus_infinity(dtype: type) -> None:
    scores = np.ones(1000, dtype)
    few, all_cells = starts([1000]), 1.0
    assert bound_of(scores, [0], few, 200, 0.01) == -np.inf  # five cells are no sample
    assert bound_of(scores, [0], few, 1, all_cells) == -np.inf
    assert bound_of(scores, [], few, 1, 0.1) == -np.inf
    assert bound_of(np.full(1000, np.nan, dtype), [0], few, 1, 0.1) == -np.inf
    assert bound_of(scores, [0], few, 1, 0.1) == 1.0
