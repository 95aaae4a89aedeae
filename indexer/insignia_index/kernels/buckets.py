"""From entries by gene to rows by study: the inner loops of an import."""

from __future__ import annotations

import numpy as np
from numba import njit

#: Faults of `count_entries` besides 0.
BAD_INDEX, NOT_FINITE = 1, 2


@njit(nogil=True, cache=True)
def count_entries(cells, genes, values, bucket_of_cell, first_gene, last_gene, counts):
    """Add the entries of each bucket to counts (n_buckets,) int64; returns (fault, entry), (0, -1) if none.

    cells, genes, values (n,); ``bucket_of_cell`` int32 (n_cells,), -1: not wanted.
    """
    for i in range(len(cells)):
        cell, gene = np.int64(cells[i]), np.int64(genes[i])
        if cell < 0 or cell >= len(bucket_of_cell) or gene < first_gene or gene >= last_gene:
            return BAD_INDEX, i
        bucket = bucket_of_cell[cell]
        if bucket >= 0:
            if not np.isfinite(values[i]):
                return NOT_FINITE, i
            counts[bucket] += 1
    return 0, -1


@njit(nogil=True, cache=True)
def scatter_entries(
    cells, genes, values, bucket_of_cell, row_of_cell, first_gene, cursor, out_rows, out_genes, out_values
):
    """Write every wanted entry at the cursor (n_buckets,) int64 of its bucket; cursors move on.

    Out: row in the bucket and gene after ``first_gene`` (uint16), value (float32); in a bucket entries keep
    their order.
    """
    for i in range(len(cells)):
        bucket = bucket_of_cell[cells[i]]
        if bucket >= 0:
            at = cursor[bucket]
            out_rows[at] = row_of_cell[cells[i]]
            out_genes[at] = np.int64(genes[i]) - first_gene
            out_values[at] = values[i]
            cursor[bucket] = at + 1


@njit(nogil=True, cache=True)
def rows_from_pieces(starts, first_rows, first_genes, rows, genes, values, indptr, indices, data):
    """Write the CSR matrix of pieces of buckets that lie one after the other.

    ``starts`` int64 (n_pieces + 1): where each begins in rows, genes (uint16) and values (float32);
    ``first_rows``, ``first_genes`` int64 (n_pieces,): what to add to its rows and genes. Out: ``indptr``
    int64 (n_rows + 1,), zeros before; ``indices`` int32; ``data`` float32. Entries of a row keep their order.
    """
    for piece in range(len(first_rows)):
        for i in range(starts[piece], starts[piece + 1]):
            indptr[first_rows[piece] + rows[i] + 1] += 1
    for row in range(len(indptr) - 1):
        indptr[row + 1] += indptr[row]
    cursor = indptr[:-1].copy()
    for piece in range(len(first_rows)):
        for i in range(starts[piece], starts[piece + 1]):
            row = first_rows[piece] + rows[i]
            at = cursor[row]
            indices[at] = first_genes[piece] + genes[i]
            data[at] = values[i]
            cursor[row] = at + 1
