"""Copies and expansions of a tile's values, by every way that this processor has."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit

from insignia_index.kernels import tile_words
from insignia_index.kernels.memory import HAS_SHUFFLE
from insignia_index.kernels.tile_words import TILE_CELLS

COPIES = [tile_words.copy_by_lanes, tile_words.copy_one_by_one]
EXPANSIONS = [tile_words.expand_by_lanes, tile_words.expand_one_by_one]
if HAS_SHUFFLE:
    COPIES.append(tile_words.copy_by_shuffle)
    EXPANSIONS.append(tile_words.expand_by_shuffle)
#: Values before those that are wanted.
BEFORE = 8


def copying(function: Any) -> Any:
    """A copy that Python can call with arrays."""

    @njit
    def copy(values: np.ndarray, first: int, n: int, out: np.ndarray, at: int) -> None:
        function(np.uint64(values.ctypes.data + 2 * first), n, np.uint64(out.ctypes.data + 2 * at))

    return copy


def expanding(function: Any) -> Any:
    """An expansion that Python can call with arrays."""

    @njit
    def expand(values: np.ndarray, first: int, bits: int, scale: float, out: np.ndarray, at: int) -> None:
        address, target = np.uint64(values.ctypes.data + 2 * first), np.uint64(out.ctypes.data + 4 * at)
        function(address, np.uint32(bits), np.float32(scale), target)

    return expand


@pytest.mark.parametrize("copy", [copying(copy) for copy in COPIES])
@pytest.mark.parametrize("n", range(TILE_CELLS + 1))
def test_values_are_copied_and_nothing_beyond_a_tile_is_touched(copy: Any, n: int) -> None:
    values = np.arange(1, 100, dtype=np.uint16)
    out = np.full(80, 7, np.uint16)
    copy(values, BEFORE, n, out, 20)
    assert out[20 : 20 + n].tolist() == list(range(BEFORE + 1, BEFORE + 1 + n))
    assert (out[:20] == 7).all()
    assert (out[20 + TILE_CELLS :] == 7).all()


@pytest.mark.parametrize("expand", [expanding(expand) for expand in EXPANSIONS])
@given(bits=st.integers(0, 2**32 - 1), scale=st.sampled_from([1.0, 0.25, 2.0**-20]))
@settings(max_examples=60)
def test_values_come_to_their_cells_times_the_scale(expand: Any, bits: int, scale: float) -> None:
    values = np.arange(1, 100).astype(np.float16) - np.float16(40)
    room = np.full(3 * TILE_CELLS + 16, 7, np.float32)
    first = -(room.ctypes.data // 4) % 16 + TILE_CELLS  # whole cache lines
    wanted = np.zeros(TILE_CELLS, np.float32)
    cells = [i for i in range(TILE_CELLS) if bits >> i & 1]
    wanted[cells] = values[BEFORE : BEFORE + len(cells)].astype(np.float32) * np.float32(scale)
    expand(values.view(np.uint16), BEFORE, bits, scale, room, first)
    assert room[first : first + TILE_CELLS].tolist() == wanted.tolist()
    assert (room[:first] == 7).all()
    assert (room[first + TILE_CELLS :] == 7).all()
