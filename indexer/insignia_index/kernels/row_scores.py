"""Inner products of rows of cells with a dense query: level by level as guesses, and whole.

See `kernels.rows` for what rows are. Rows of several studies are named by their place in the snapshot:
``tables`` int64 (n_studies, ROW_COLUMNS), ``starts`` int64 (n_studies + 1,), the first row of each study,
and ``hints``, see `hints_of`, lead to them. ``weights`` of narrow rows are float32 (65,536,), so that any
gene has a place there.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from insignia_index.kernels.memory import half_to_float, prefetch, view
from insignia_index.kernels.rows import HEAD, LEVEL_ENDS, LEVELS, head_of, scale_of, tail_of

#: Rows, and bytes of a tail, that are asked for before they are read.
_AHEAD = 6
_TAIL_BYTES = 4096
#: Rows between two hints: a binary search among the studies takes longer than a level of a head.
_HINT_ROWS = 256
#: Parts of the range of the guesses, of which those above some are kept.
_STEPS = 2_048


@njit(nogil=True, cache=True, fastmath={"reassoc", "contract"})  # so that a sum can use vectors
def _dot_narrow(genes_at, count, weights):
    genes, values = view(genes_at, count, np.uint16), view(genes_at + np.uint64(2 * count), count, np.uint16)
    total = np.float32(0.0)
    for i in range(count):
        total += weights[genes[i]] * half_to_float(values[i])
    return total


@njit(nogil=True, cache=True)
def _dot_wide(genes_at, count, weights):
    genes, values = view(genes_at, count, np.uint32), view(genes_at + np.uint64(4 * count), count, np.float32)
    total = 0.0
    for i in range(count):
        if genes[i] < len(weights):
            total += weights[genes[i]] * np.float64(values[i])
    return total


def hints_of(starts):
    """The study of every _HINT_ROWS-th row, int64: where to begin to look for the study of a row."""
    return np.searchsorted(starts, np.arange(0, max(1, starts[-1]), _HINT_ROWS), side="right") - 1


@njit(nogil=True, inline="always")
def place_of(starts, hints, row):
    """Study of a row, and the cell there."""
    study = hints[row // _HINT_ROWS]
    while starts[study + 1] <= row:
        study += 1
    return study, row - starts[study]


@njit(nogil=True, inline="always")
def _head(tables, starts, hints, row, width):
    """The table and the cell of a row, and the address of its head."""
    study, cell = place_of(starts, hints, row)
    return tables[study], cell, head_of(tables[study], cell, width)


@njit(nogil=True, cache=True)
def add_level(tables, starts, hints, rows, n_rows, level, weights, guesses):
    """Add the inner products of one level of the heads of narrow rows with ``weights`` to ``guesses``.

    ``rows`` int64 and ``guesses`` float32: the first ``n_rows``.
    """
    size = LEVELS[level]
    first = 4 * (LEVEL_ENDS[level] - size)
    for i in range(n_rows):
        if i + _AHEAD < n_rows:
            _, _, later = _head(tables, starts, hints, rows[i + _AHEAD], 2)
            prefetch(later + np.uint64(first), 4 * size)
        table, cell, head = _head(tables, starts, hints, rows[i], 2)
        guesses[i] += scale_of(table, cell, False) * _dot_narrow(head + np.uint64(first), size, weights)


@njit(nogil=True, cache=True)
def keep_best(rows, guesses, n_rows, n):
    """Move about the best ``n`` of the first ``n_rows`` to the front, in their order; returns how many.

    They are ``n`` or a few more: those of a guess above a bound, which is one of _STEPS between the extremes.
    """
    if n_rows <= n:
        return n_rows
    low, high = guesses[0], guesses[0]
    for i in range(n_rows):  # without NaN, and so as vectors
        low, high = (guesses[i] if guesses[i] < low else low), (guesses[i] if guesses[i] > high else high)
    counts = np.zeros(_STEPS + 1, np.int32)
    per_step = np.float32(_STEPS) / max(np.float32(high - low), np.float32(1e-30))
    for i in range(n_rows):
        counts[min(_STEPS, np.int64((guesses[i] - low) * per_step))] += 1
    step, found = _STEPS, np.int64(counts[_STEPS])
    while found < n:
        step -= 1
        found += counts[step]
    kept = 0
    for i in range(n_rows):  # no branch: what is kept has no pattern that the processor could guess
        is_kept = (guesses[i] - low) * per_step >= step
        rows[kept], guesses[kept] = rows[i], guesses[i]
        kept += is_kept
    return kept


@njit(nogil=True, cache=True)
def finalists(tables, starts, hints, rows, guesses, n_rows, first_level, most, weights):
    """Move the rows that are worth a whole look to the front; returns how many there are.

    ``guesses`` float32: scores without the levels from ``first_level`` on, and the tails. ``most`` int64:
    about how many rows each level of all is read of, and last how many are left.
    """
    for level in range(first_level, len(LEVELS)):
        n_rows = keep_best(rows, guesses, n_rows, most[level])
        add_level(tables, starts, hints, rows, n_rows, level, weights, guesses)
    return keep_best(rows, guesses, n_rows, most[len(LEVELS)])


@njit(nogil=True, cache=True)
def score_narrow(tables, starts, hints, rows, weights, scores):
    """Write the inner products of narrow ``rows`` with ``weights`` to ``scores`` float32 (n,)."""
    for i in range(len(rows)):
        if i + _AHEAD < len(rows):
            table, cell, head = _head(tables, starts, hints, rows[i + _AHEAD], 2)
            prefetch(head, 4 * HEAD)
            tail, count = tail_of(table, cell, 2)
            prefetch(tail, min(4 * count, _TAIL_BYTES))
        table, cell, head = _head(tables, starts, hints, rows[i], 2)
        total = np.float32(0.0)
        for level in range(len(LEVELS)):
            first = 4 * (LEVEL_ENDS[level] - LEVELS[level])
            total += _dot_narrow(head + np.uint64(first), LEVELS[level], weights)
        tail, count = tail_of(table, cell, 2)
        scores[i] = scale_of(table, cell, False) * (total + _dot_narrow(tail, count, weights))


@njit(nogil=True, cache=True)
def score_wide(tables, starts, hints, rows, weights, scores):
    """As `score_narrow`, for wide rows, ``weights`` and ``scores`` float64."""
    for i in range(len(rows)):
        table, cell, head = _head(tables, starts, hints, rows[i], 4)
        total = 0.0
        for level in range(len(LEVELS)):
            first = 8 * (LEVEL_ENDS[level] - LEVELS[level])
            total += _dot_wide(head + np.uint64(first), LEVELS[level], weights)
        tail, count = tail_of(table, cell, 4)
        scores[i] = total + _dot_wide(tail, count, weights)
