"""The containers of the genes that are asked for, kept together in memory.

A shard keeps a block's genes side by side, which suits building and removing studies. A search wants the
opposite: a few genes of every block. The first search of a gene looks its containers up, checks them, and
copies small ones into one run over all blocks; from then on a search reads that run from end to end, where
it would touch a page and a directory in every block. Large containers are runs already and stay in the file.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from insignia_index.kernels.directory import NO_ENTRY, copy_containers, gene_entries
from insignia_index.kernels.profile import entries_of_genes
from insignia_index.snapshot import Snapshot

#: Memory that the cache may use unless it is told otherwise.
GENE_CACHE_BYTES = 1 << 30
#: Mean bytes of a gene's containers above which they are not copied.
_LARGE = 8_192
#: Words before the first container, which `kernels.shuffle` may reach before.
_ROOM = 4


@dataclass(frozen=True, slots=True)
class Postings:
    """Genes by address: ``entries`` uint64 (n,) and ``payloads`` uint64 (n,), see `score_blocks_half`.

    The addresses are good as long as this object lives.
    """

    entries: npt.NDArray[np.uint64]
    payloads: npt.NDArray[np.uint64]
    _kept_by: object


class _Generation:
    """What has been loaded since the cache was last emptied."""

    def __init__(self, n_genes: int) -> None:
        self.entries = np.zeros(n_genes, np.uint64)
        self.payloads = np.zeros(n_genes, np.uint64)
        self.n_bytes = 0
        self._arrays: list[npt.NDArray[np.uint64] | npt.NDArray[np.uint32]] = []

    def postings(self, gene_ids: npt.NDArray[np.int64]) -> Postings:
        """Genes that have been loaded."""
        return Postings(self.entries[gene_ids], self.payloads[gene_ids], self)

    def load(self, snapshot: Snapshot, gene: int, may_copy: bool) -> None:
        """Look a gene up, and copy its containers if they are small."""
        value_bytes = snapshot.record.value_bits // 8
        entries = np.empty(len(snapshot.table), np.uint64)
        n_bytes = gene_entries(snapshot.table, gene, value_bytes, entries)
        self._arrays.append(entries)
        self.n_bytes += entries.nbytes
        n_containers = int(np.count_nonzero(entries != NO_ENTRY))
        if may_copy and 0 < n_bytes <= n_containers * _LARGE:
            room = np.zeros(_ROOM + n_bytes // 4, np.uint32)
            payload = room[_ROOM:]
            copy_containers(snapshot.table, value_bytes, entries, payload)
            self._arrays.append(payload)
            self.n_bytes += payload.nbytes
            self.payloads[gene] = payload.ctypes.data
        self.entries[gene] = entries.ctypes.data


class GeneCache:
    """Genes of one snapshot. When its budget of memory is used up, the next search begins an empty one."""

    def __init__(self, snapshot: Snapshot, budget_bytes: int) -> None:
        self._snapshot = snapshot
        self._budget_bytes = budget_bytes
        self._lock = threading.Lock()
        self._generation = _Generation(len(snapshot.genes))

    def get(self, gene_ids: npt.NDArray[np.int64]) -> Postings:
        """Postings of the genes int64 (n,); raises `AtlasCorrupt` if their containers are damaged."""
        generation = self._generation
        if generation.entries[gene_ids].all():
            return generation.postings(gene_ids)
        self._snapshot.check_genes(gene_ids)
        with self._lock:
            generation = self._generation
            if generation.n_bytes > self._budget_bytes:
                # searches that use the old one keep it alive
                generation = self._generation = _Generation(len(self._snapshot.genes))
            for gene in gene_ids[generation.entries[gene_ids] == 0].tolist():
                generation.load(self._snapshot, gene, generation.n_bytes < self._budget_bytes)
            return generation.postings(gene_ids)

    def in_place(self, gene_ids: npt.NDArray[np.int64]) -> Postings:
        """Postings of many genes as they lie in the files; raises `AtlasCorrupt`.

        A whole profile has most of an atlas's postings: copies of them would drive all others out of the
        cache, and read in place they take about a quarter longer.
        """
        self._snapshot.check_genes(gene_ids)
        entries = np.empty((len(gene_ids), len(self._snapshot.table)), np.uint64)
        entries_of_genes(self._snapshot.table, gene_ids, entries)
        addresses = entries.ctypes.data + np.arange(len(gene_ids)) * entries.strides[0]
        return Postings(addresses.astype(np.uint64), np.zeros(len(gene_ids), np.uint64), entries)
