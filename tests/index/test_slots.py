"""Cells by slot, and their statistics, against numpy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from insignia_index.kernels.moments import CHAINS, moments
from insignia_index.kernels.slots import sort_by_slot


def starts(sizes: np.ndarray) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)


def check_sorted(block_cells: list[int], n_slots: list[int], codes: np.ndarray, passes: np.ndarray) -> None:
    block_starts, slot_starts = starts(np.array(block_cells)), starts(np.array(n_slots))
    order = np.full(passes.sum(), 65_535, np.uint16)
    order_starts = np.full(slot_starts[-1] + 1, -1, np.int64)
    sort_by_slot(codes, passes, block_starts, slot_starts, order, order_starts)

    row = np.arange(block_starts[-1])
    block = np.repeat(np.arange(len(block_cells)), block_cells)
    slot = slot_starts[block] + codes
    kept = row[np.lexsort((row, slot))]
    kept = kept[passes[kept]]
    np.testing.assert_array_equal(order, (row - block_starts[block])[kept])
    np.testing.assert_array_equal(np.diff(order_starts), np.bincount(slot[passes], minlength=slot_starts[-1]))
    assert order_starts[0] == 0


@settings(max_examples=60)
@given(data=st.data())
def test_cells_that_pass_come_by_block_then_slot_then_row(data: st.DataObject) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    block_cells = data.draw(st.lists(st.integers(1, 40), min_size=1, max_size=5))
    n_slots = [int(rng.integers(1, n + 2)) for n in block_cells]  # a slot may have no cell at all
    codes = np.concatenate(
        [rng.integers(0, slots, n) for slots, n in zip(n_slots, block_cells, strict=True)]
    ).astype(np.uint16)
    passes = rng.random(len(codes)) < data.draw(st.sampled_from([0.0, 0.1, 0.7, 1.0]))
    if data.draw(st.booleans()):
        passes[: block_cells[0]] = False
    check_sorted(block_cells, n_slots, codes, passes)


def test_a_full_block_of_65536_cells_and_as_many_slots_is_sorted() -> None:
    n, rng = 65_536, np.random.default_rng(4)
    codes = np.concatenate([rng.permutation(n), [1, 0, 1]]).astype(np.uint16)
    check_sorted([n, 3], [n, 2], codes, np.ones(n + 3, bool))
    check_sorted([n, 3], [n, 2], codes, rng.random(n + 3) < 0.5)


def test_an_atlas_without_cells_has_no_slots() -> None:
    check_sorted([], [], np.empty(0, np.uint16), np.empty(0, bool))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n_cells", [*range(10), 15, 16, 17, 31, 32, 35])
def test_statistics_of_a_slot_are_those_of_its_cells_alone(dtype: type, n_cells: int) -> None:
    rng = np.random.default_rng(n_cells)
    for scale in (1e-15, 1.0, 1e15):
        scores = (rng.normal(0, scale, 40) - scale).astype(dtype)
        order = rng.permutation(40).astype(np.uint16)
        scores[order[:3]] = scores[order[3 + n_cells :]] = np.nan  # of other slots
        chosen = scores[order[3 : 3 + n_cells]].astype(np.float64)
        total, squares, maximum = moments(scores, order, 3, 3 + n_cells)
        assert total == pytest.approx(chosen.sum(), rel=1e-13, abs=1e-13 * scale)
        assert squares == pytest.approx((chosen**2).sum(), rel=1e-13)
        assert maximum == max(chosen, default=-np.inf)


def by_loop(chosen: np.ndarray) -> tuple[float, float, float]:
    """Sum, sum of squares and maximum in the promised order: CHAINS chains, folded by halves."""
    chains = [chosen[j::CHAINS].astype(np.float64) for j in range(CHAINS)]
    # cumsum adds from left to right, sum does not
    sums = [float(np.cumsum(chain)[-1]) if len(chain) else 0.0 for chain in chains]
    squares = [float(np.cumsum(chain * chain)[-1]) if len(chain) else 0.0 for chain in chains]
    while len(sums) > 1:
        half = len(sums) // 2
        sums = [a + b for a, b in zip(sums[:half], sums[half:], strict=True)]
        squares = [a + b for a, b in zip(squares[:half], squares[half:], strict=True)]
    return sums[0], squares[0], float(chosen.max())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_order_of_summation_is_that_of_the_cells_on_every_processor(dtype: type) -> None:
    rng = np.random.default_rng(3)
    for n_cells in (1, 5, 16, 17, 100, 1000):
        scores, order = rng.normal(0, 1, 1000).astype(dtype), rng.permutation(1000).astype(np.uint16)
        assert moments(scores, order, 0, n_cells) == by_loop(scores[order[:n_cells]])


@pytest.mark.parametrize("n_cells", range(1, 10))
def test_the_maximum_is_found_at_every_place(n_cells: int) -> None:
    order = np.arange(n_cells, dtype=np.uint16)
    for place in range(n_cells):
        scores = np.full(n_cells, -5.0, np.float32)
        scores[place] = -1.0
        assert moments(scores, order, 0, n_cells)[2] == -1.0


def test_sums_of_single_scores_are_taken_in_double_precision() -> None:
    scores = np.tile(np.float32([1e8, 1.0, -1e8, 1.0]), 25)
    total, squares, _ = moments(scores, np.arange(100, dtype=np.uint16), 0, 100)
    assert total == 50.0
    assert squares == pytest.approx((scores.astype(np.float64) ** 2).sum(), rel=1e-15)


def test_a_slot_without_cells_has_no_maximum() -> None:
    scores, order = np.ones(4, np.float32), np.arange(4, dtype=np.uint16)
    assert moments(scores, order, 2, 2) == (0.0, 0.0, -np.inf)
