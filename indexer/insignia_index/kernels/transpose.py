"""From rows of cells to postings by gene: the inner loops of a build."""

from __future__ import annotations

import numpy as np
from numba import njit

from insignia_index.format.layout import BITMAP, LIST
from insignia_index.kernels.check import checksum, entry_seed
from insignia_index.kernels.memory import float_to_half, view
from insignia_index.kernels.score import SCALES

#: Faults of `count_postings` besides 0.
BAD_INDEX, NOT_FINITE = 1, 2


@njit(nogil=True, cache=True)
def count_postings(indptr, indices, data, gene_of_column, counts):
    """Add each gene's non-zeros to counts (n_genes,) int64; returns (fault, row), (0, -1) if none."""
    for row in range(len(indptr) - 1):
        for i in range(indptr[row], indptr[row + 1]):
            column = indices[i]
            if column < 0 or column >= len(gene_of_column):
                return BAD_INDEX, row
            if not np.isfinite(data[i]):
                return NOT_FINITE, row
            if data[i] != 0:
                counts[gene_of_column[column]] += 1
    return 0, -1


@njit(nogil=True, cache=True)
def scatter_postings(indptr, indices, data, gene_of_column, first_id, cursor, ids, values, last_id):
    """Write each non-zero's local id (uint16) and value (float32) at its gene's cursor; cursors move on.

    ``last_id`` (n_genes,) int64 remembers the last cell of each gene, so that a gene that stands twice in a
    row is noticed. Returns the first such row, -1 if none.
    """
    for row in range(len(indptr) - 1):
        local = first_id + row
        for i in range(indptr[row], indptr[row + 1]):
            if data[i] != 0:
                gene = gene_of_column[indices[i]]
                if last_id[gene] == local:
                    return row
                last_id[gene] = local
                at = cursor[gene]
                ids[at] = local
                values[at] = data[i]
                cursor[gene] = at + 1
    return -1


@njit(nogil=True, cache=True)
def gene_statistics(indptr, indices, data, gene_of_column, n_cells, total, maximum):
    """Add a chunk to per-gene statistics: detecting cells (int64), sum (float64), maximum (float32).

    Returns whether a value is negative.
    """
    negative = False
    for row in range(len(indptr) - 1):
        for i in range(indptr[row], indptr[row + 1]):
            value = data[i]
            if value != 0:
                gene = gene_of_column[indices[i]]
                n_cells[gene] += 1
                total[gene] += value
                maximum[gene] = max(maximum[gene], value)
                negative |= value < 0
    return negative


@njit(nogil=True, cache=True)
def gene_magnitudes(chunk_starts, values):
    """Largest absolute value of each gene's postings, float32 (n_genes,); arrays as for `encode_genes`."""
    n_chunks, n_genes = chunk_starts.shape[0], chunk_starts.shape[1] - 1
    largest = np.zeros(n_genes, np.float32)
    for c in range(n_chunks):
        for gene in range(n_genes):
            for i in range(chunk_starts[c, gene], chunk_starts[c, gene + 1]):
                largest[gene] = max(largest[gene], abs(values[i]))
    return largest


@njit(nogil=True)
def _write_list(address, count, value_bytes, scale, ids, values, starts, ends):
    id_out = view(address + np.uint64(count * value_bytes), count, np.uint16)
    n = 0
    if value_bytes == 2:
        halves = view(address, count, np.uint16)
        for c in range(len(starts)):
            for i in range(starts[c], ends[c]):
                halves[n], id_out[n] = float_to_half(values[i] * scale), ids[i]
                n += 1
    else:
        singles = view(address, count, np.float32)
        for c in range(len(starts)):
            for i in range(starts[c], ends[c]):
                singles[n], id_out[n] = values[i], ids[i]
                n += 1


@njit(nogil=True)
def _write_bitmap(address, n_cells, value_bytes, scale, ids, values, starts, ends):
    n_masks = (n_cells + 31) // 32
    masks = view(address, n_masks, np.uint32)
    after = address + np.uint64(4 * n_masks)
    n = 0
    for c in range(len(starts)):
        for i in range(starts[c], ends[c]):
            masks[ids[i] >> 5] |= np.uint32(1) << np.uint32(ids[i] & 31)
            if value_bytes == 2:
                view(after, n + 1, np.uint16)[n] = float_to_half(values[i] * scale)
            else:
                view(after, n + 1, np.float32)[n] = values[i]
            n += 1


@njit(nogil=True)
def _write_full(address, n_cells, value_bytes, scale, ids, values, starts, ends):
    for c in range(len(starts)):
        for i in range(starts[c], ends[c]):
            if value_bytes == 2:
                view(address, n_cells, np.uint16)[ids[i]] = float_to_half(values[i] * scale)
            else:
                view(address, n_cells, np.float32)[ids[i]] = values[i]


@njit(nogil=True, cache=True)
def encode_genes(genes, entries, sizes, chunk_starts, ids, values, n_cells, value_bytes, out, checks):
    """Write the containers of ``genes`` one after the other into ``out`` (uint8, zeros) and their checksums.

    ``chunk_starts`` int64 (n_chunks, n_genes + 1): where each chunk keeps each gene's postings in ``ids`` and
    ``values``; chunks are in row order, so that the ids of a gene ascend.
    """
    address = np.uint64(out.ctypes.data)
    for e in range(len(genes)):
        gene, entry = genes[e], entries[e]
        count = np.int64(entry & np.uint64(0xFFFF)) + 1
        kind = np.int64((entry >> np.uint64(16)) & np.uint64(3))
        scale = np.float32(1 / SCALES[np.int64((entry >> np.uint64(18)) & np.uint64(0xFF))])
        starts, ends = chunk_starts[:, gene], chunk_starts[:, gene + 1]
        if kind == LIST:
            _write_list(address, count, value_bytes, scale, ids, values, starts, ends)
        elif kind == BITMAP:
            _write_bitmap(address, n_cells, value_bytes, scale, ids, values, starts, ends)
        else:
            _write_full(address, n_cells, value_bytes, scale, ids, values, starts, ends)
        checks[e] = checksum(view(address, sizes[e] // 4, np.uint32), entry_seed(gene, entry))
        address += np.uint64(sizes[e])
