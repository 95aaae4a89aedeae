"""A container is checked the first time that anybody asks for its gene: bounds, order, checksum.

After that the scoring kernel may trust it. So opening an atlas reads almost nothing, and yet no answer
is made from a byte that was not checked.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from insignia_index.format.layout import BITMAP, FULL, LIST
from insignia_index.kernels.directory import (
    CHECKS,
    ENTRIES,
    N_CELLS,
    N_ENTRIES,
    PAYLOAD,
    PAYLOAD_BYTES,
    container_size,
    entry_count,
    entry_index,
    entry_kind,
    entry_offset,
)
from insignia_index.kernels.memory import popcount, view

#: What `check_genes` found: 0 all well, else the first fault.
FAULTS = (
    "",
    "a gene directory points outside of its block",
    "a container has an unknown kind",
    "a container lies outside of its block",
    "a container does not match its checksum",
    "cell ids are not ascending or out of range",
    "a bitmap does not match its count",
    "a value is not finite",
)


@njit(nogil=True, cache=True)
def checksum(words, seed):
    """Checksum (uint32) of uint32 words: sum of each word times its odd position factor, modulo 2**32.

    An odd factor is invertible, so that every change of a single word changes the sum.
    """
    # numba widens to 64 bits; only the low 32 are kept, so LLVM computes no more than these
    total = np.uint64(seed)
    for i in range(len(words)):
        total += np.uint64(words[i]) * np.uint64(2 * i + 1)
    return np.uint32(total & np.uint64(0xFFFFFFFF))


@njit(nogil=True, cache=True)
def entry_seed(gene, entry):
    """Seed of a container's checksum: it also covers the directory entry and the gene."""
    low, high = entry & np.uint64(0xFFFFFFFF), entry >> np.uint64(32)
    mixed = low * np.uint64(0x9E3779B1) + high * np.uint64(0x85EBCA77) + np.uint64(2 * gene + 1)
    return np.uint32(mixed & np.uint64(0xFFFFFFFF))


@njit(nogil=True)
def _finite(address, count, value_bytes):
    if value_bytes == 2:
        for bits in view(address, count, np.uint16):
            if bits & 0x7C00 == 0x7C00:
                return False
        return True
    for value in view(address, count, np.float32):
        if not np.isfinite(value):
            return False
    return True


@njit(nogil=True)
def _check_list(address, count, n_cells, value_bytes):
    ids = view(address + np.uint64(count * value_bytes), count, np.uint16)
    previous = -1
    for i in ids:
        if i <= previous or i >= n_cells:
            return 5
        previous = np.int64(i)
    return 0 if _finite(address, count, value_bytes) else 7


@njit(nogil=True)
def _check_bitmap(address, count, n_cells, value_bytes):
    n_masks = (n_cells + 31) // 32
    n_set = 0
    masks = view(address, n_masks, np.uint32)
    for mask in masks:
        n_set += popcount(mask)
    if n_cells % 32 and masks[n_masks - 1] >> np.uint32(n_cells % 32):
        return 5
    if n_set != count:
        return 6
    return 0 if _finite(address + np.uint64(4 * n_masks), count, value_bytes) else 7


@njit(nogil=True)
def _check_container(row, gene, value_bytes):
    index = entry_index(row, gene)
    if index < 0:
        return 0
    if index >= row[N_ENTRIES]:
        return 1
    entry = view(np.uint64(row[ENTRIES]), row[N_ENTRIES], np.uint64)[index]
    count, kind, offset = entry_count(entry), entry_kind(entry), entry_offset(entry)
    n_cells = row[N_CELLS]
    if kind > FULL:
        return 2
    size = container_size(kind, count, n_cells, value_bytes)
    if count > n_cells or offset + size > row[PAYLOAD_BYTES]:
        return 3
    address = np.uint64(row[PAYLOAD] + offset)
    stored = view(np.uint64(row[CHECKS]), row[N_ENTRIES], np.uint32)[index]
    if checksum(view(address, size // 4, np.uint32), entry_seed(gene, entry)) != stored:
        return 4
    if kind == LIST:
        return _check_list(address, count, n_cells, value_bytes)
    if kind == BITMAP:
        return _check_bitmap(address, count, n_cells, value_bytes)
    return 0 if _finite(address, n_cells, value_bytes) else 7


@njit(nogil=True, cache=True)
def check_genes(table, blocks, genes, value_bytes):
    """Check the containers of genes in the listed blocks; returns (fault, block, gene), or (0, -1, -1)."""
    for b in blocks:
        row = table[b]
        for gene in genes:
            fault = _check_container(row, gene, value_bytes)
            if fault:
                return fault, b, gene
    return 0, -1, -1
