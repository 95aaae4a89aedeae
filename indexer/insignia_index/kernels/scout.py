"""Candidates of a whole profile: a scan of 8-bit projections by list, then *glances* at the largest values.

A glance is what is known of a cell besides its projection: the first level of its head (`kernels.rows`), with
values of 8 bits, in 128 bytes: genes uint16 (LEVELS[0],), values int8, what these are to be multiplied with
float32, row of the snapshot uint32. Codes and glances lie in the order of the lists, so that what is visited
lies together: to fetch a line of memory from anywhere costs as much as the work on some 100 values.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from insignia_index.kernels.byte_dot import LANES, SIDE, dot_block
from insignia_index.kernels.memory import half_to_float, prefetch, view
from insignia_index.kernels.row_scores import keep_best, place_of
from insignia_index.kernels.rows import LEVELS, head_of, scale_of

GLANCE_BYTES = 128
_GENES = LEVELS[0]
_VALUES_AT, _SCALE_AT, _ROW_AT = 2 * _GENES, 120, 124
_LARGEST = 127
#: Glances that are asked for before they are read.
_AHEAD = 12
#: Parts of the range of the scores, of which those above some are kept.
_STEPS = 4_096
#: Score of a cell that the filter leaves out.
_OUT = np.int32(-(2**31))


@njit(nogil=True, cache=True)
def write_glances(tables, starts, hints, rows, glances):
    """Write ``glances`` uint8 (n, GLANCE_BYTES) of narrow ``rows`` int64 (n,), see `kernels.row_scores`."""
    for i in range(len(rows)):
        study, cell = place_of(starts, hints, rows[i])
        head = head_of(tables[study], cell, 2)
        genes = view(head, _GENES, np.uint16)
        bits = view(head + np.uint64(2 * _GENES), _GENES, np.uint16)
        largest = np.float32(0.0)
        for j in range(_GENES):
            largest = max(largest, abs(half_to_float(bits[j])))
        at = np.uint64(glances[i:].ctypes.data)
        view(at, _GENES, np.uint16)[:] = genes
        values = view(at + np.uint64(_VALUES_AT), _GENES, np.int8)
        for j in range(_GENES):
            share = half_to_float(bits[j]) / largest if largest > 0 else np.float32(0.0)
            values[j] = np.int8(np.rint(_LARGEST * share))
        scale = scale_of(tables[study], cell, False) * largest / np.float32(_LARGEST)
        view(at + np.uint64(_SCALE_AT), 1, np.float32)[0] = scale
        view(at + np.uint64(_ROW_AT), 1, np.uint32)[0] = rows[i]


@njit(nogil=True, cache=True)
def scan(lists, first_blocks, sizes, codes, ids, passing, query, scores):
    """Write the inner products of the codes of ``lists`` int64 (n,) with ``query`` int8, int32 each.

    ``codes``: address of blocks of codes, see `kernels.byte_dot`, where those of each list begin at
    ``first_blocks`` int64; ``query`` is padded as they are. ``ids`` uint64 (n_lists,): addresses of the rows
    int64 (size,) of each list. ``passing`` bool by row, of length 0 if all pass. Of ``scores`` LANES more may
    be overwritten. Returns how many were written.
    """
    n, at = 0, np.uint64(query.ctypes.data)
    n_sides, size = len(query) // SIDE, LANES * len(query)
    out = np.uint64(scores.ctypes.data)
    for some in lists:
        block = codes + np.uint64(size * first_blocks[some])
        for i in range(0, sizes[some], LANES):
            dot_block(block, at, n_sides, out + np.uint64(4 * (n + i)))
            block += np.uint64(size)
        if len(passing):
            rows = view(ids[some], sizes[some], np.int64)
            for i in range(sizes[some]):
                if not passing[rows[i]]:
                    scores[n + i] = _OUT
        n += sizes[some]
    return n


@njit(nogil=True, cache=True)
def bound_of(scores, n_scores, n):
    """A bound that some ``n`` or a few more of the first scores reach; all that pass if they are fewer."""
    low, high = np.int32(2**31 - 1), _OUT
    for i in range(n_scores):
        # without a branch, so that the loop can use vectors
        low = min(low, scores[i] if scores[i] != _OUT else low)
        high = max(high, scores[i])
    if high < low:
        return np.int64(low)
    # int32, and not too many: counters that leave the nearest cache cost more than a few cells too many
    counts = np.zeros(_STEPS + 1, np.int32)
    width = (np.int64(high) - np.int64(low)) // _STEPS + 1
    shift = 0  # a power of two, because a division takes as long as all else here
    while (1 << shift) < width:
        shift += 1
    for i in range(n_scores):
        if scores[i] != _OUT:
            counts[(np.int64(scores[i]) - low) >> shift] += 1
    step, found = _STEPS, np.int64(counts[_STEPS])
    while step > 0 and found < n:
        step -= 1
        found += counts[step]
    return low + (np.int64(step) << shift)


@njit(nogil=True, cache=True)
def coded(query, low, step, codes):
    """Write ``query`` float32 (d,) for `scan` to ``codes`` int8 (d,).

    Codes stand for low + step * (code + 0.5). Returns scale and offset: a score times the scale plus the
    offset is the inner product, but for the rounding of the query.
    """
    extreme, offset, total = np.float32(1e-30), np.float32(0.0), 0
    for j in range(len(query)):
        extreme = max(extreme, abs(query[j] * step[j]))
        offset += query[j] * low[j]
    scale = extreme / np.float32(_LARGEST)
    for j in range(len(query)):
        codes[j] = np.int8(np.rint(query[j] * step[j] / scale))
        total += codes[j]
    return scale, offset + np.float32(0.5) * scale * np.float32(total)


@njit(nogil=True, cache=True, fastmath={"reassoc", "contract"})  # so that a sum can use vectors
def _dot(genes, values, weights):
    total = np.float32(0.0)
    for j in range(len(genes)):
        total += weights[genes[j]] * np.float32(values[j])
    return total


@njit(nogil=True, cache=True)
def glance(lists, starts, sizes, scores, bound, scale, offset, glances, n_genes, weights, rows, guesses):
    """Write the rows whose scores reach ``bound``, and guesses of their exact scores; returns how many.

    ``scores`` as `scan` wrote them; ``scale`` times a score plus ``offset`` is the projected score.
    ``starts`` int64: place of each list's first glance. ``glances``: address; ``n_genes`` = LEVELS[0], as a
    number that the compiler does not know: it would unroll the loop, and make it three times as slow;
    ``weights`` float32 (65,536,): the query less what the projection says of it.
    """
    n, at = 0, 0
    for some in lists:
        for i in range(sizes[some]):  # no branch: what is kept has no pattern that the processor could guess
            score = scores[at + i]
            rows[n], guesses[n] = starts[some] + i, offset + scale * np.float32(score)
            n += (score >= bound) & (score != _OUT)
        at += sizes[some]
    for i in range(n):
        if i + _AHEAD < n:
            prefetch(glances + np.uint64(GLANCE_BYTES * rows[i + _AHEAD]), GLANCE_BYTES)
        here = glances + np.uint64(GLANCE_BYTES * rows[i])
        values = view(here + np.uint64(_VALUES_AT), n_genes, np.int8)
        found = _dot(view(here, n_genes, np.uint16), values, weights)
        guesses[i] += view(here + np.uint64(_SCALE_AT), 1, np.float32)[0] * found
        rows[i] = view(here + np.uint64(_ROW_AT), 1, np.uint32)[0]
    return n


@njit(nogil=True, cache=True)
def propose(
    lists, first_blocks, starts, sizes, codes, ids, passing, query, scale, offset, n, n_glanced,
    glances, n_genes, weights, scores, rows, guesses,
):  # fmt: skip
    """Write rows and guesses of about the best ``n_glanced``; returns how many, of how many candidates.

    Candidates are about the ``n`` best by projection of the cells of ``lists`` that pass: `scan`, `glance`.
    There is room for as many ``scores``, ``rows`` and ``guesses`` as the lists have cells, and LANES more.
    """
    n_scores = scan(lists, first_blocks, sizes, codes, ids, passing, query, scores)
    bound = bound_of(scores, n_scores, n)
    n_candidates = glance(
        lists, starts, sizes, scores, bound, scale, offset, glances, n_genes, weights, rows, guesses
    )
    return keep_best(rows, guesses, n_candidates, n_glanced), n_candidates
