"""Which genes may stand for one another in a random signature: those of one bin.

Genes differ a hundredfold in how many cells detect them and in how much attribution they get; a signature of
well-detected genes scores above a random one of any genes whatever the cells do. So genes are compared with
genes that have the same detection rate and mean attribution over the whole atlas (as Tirosh et al. 2016,
doi:10.1126/science.aad0501, and Seurat's AddModuleScore do with expression). Both are cut into equally many
quantiles, detection first and the mean within it, so that a bin has about `BIN_GENES` genes: enough for a
tail, few enough that the genes of a bin are alike.

A gene that a study did not measure is absent there, not zero. Rate and mean are over the cells whose study
measured the gene; a group has as much of them as it has such cells. So both are first taken times the share
of the group's cells whose study measured the gene: groups of other studies have other bins. In a group that
lacks a gene it adds nothing to the score and nothing to the null; were the others compared with it, every
signature of genes that are there would be above chance. Genes that no cell has, or none of the group's
studies, are compared with one another.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from insignia_index.null.pseudobulk import Pseudobulk
from insignia_index.snapshot import Snapshot

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

#: Genes of a bin, about.
BIN_GENES = 100
#: Proportions of studies with different genes that have bins of their own: each takes some 10 ms, and half a
#: megabyte.
MOST_MIXED = 100
_MOST_KEPT = 500


@dataclass(frozen=True)
class Bins:
    """``of_gene`` int64 (n_genes,): bin of each gene, 0...n_bins - 1, every one of which occurs."""

    of_gene: Ints

    @cached_property
    def order(self) -> Ints:
        """Genes by bin, int64 (n_genes,)."""
        return np.argsort(self.of_gene, kind="stable")

    @cached_property
    def sizes(self) -> Ints:
        """Genes of each bin, int64 (n_bins,)."""
        return np.bincount(self.of_gene)

    @cached_property
    def starts(self) -> Ints:
        """Where each bin begins in ``order``, int64 (n_bins,)."""
        return np.cumsum(self.sizes) - self.sizes

    def genes(self, number: int) -> Ints:
        """Genes of a bin, ascending."""
        start = self.starts[number]
        return self.order[start : start + self.sizes[number]]


def match_genes(detection: Floats, mean: Floats) -> Bins:
    """Bins of genes by detection rate and mean attribution, (n_genes,)."""
    of_gene = np.zeros(len(detection), np.int64)
    detected = np.flatnonzero(detection > 0)
    n_bins = int(len(detected) < len(detection))
    if len(detected):
        n_parts = max(1, int(np.sqrt(len(detected) / BIN_GENES)))
        by_detection = detected[np.lexsort((mean[detected], detection[detected]))]
        for part in np.array_split(by_detection, n_parts):
            for similar in np.array_split(part[np.argsort(mean[part], kind="stable")], n_parts):
                of_gene[similar] = n_bins
                n_bins += 1
    return Bins(of_gene)


class Matching:
    """Bins for groups of a snapshot. Safe for many threads: at worst two make the same.

    ``detection`` and ``mean`` float64 (n_genes,): over the cells of the atlas whose study measured the gene;
    ``sets`` bool (n_sets, n_genes): the distinct sets of genes that studies measured.
    """

    def __init__(self, detection: Floats, mean: Floats, sets: npt.NDArray[np.bool_]) -> None:
        self._detection, self._mean, self._sets = detection, mean, sets
        self._bins: dict[tuple[bytes, bytes], Bins] = {}

    @classmethod
    def of(cls, snapshot: Snapshot, pseudobulk: Pseudobulk) -> Matching:
        """By the statistics that the shards keep."""
        detecting, total = pseudobulk.gene_totals()
        sets, set_of_study = snapshot.measured_sets
        n_cells = np.array([study.n_cells for study in snapshot.studies], np.float64)
        cells = np.maximum(np.bincount(set_of_study, n_cells, len(sets)) @ sets, 1)
        return cls(detecting / cells, total / cells, sets)

    def bins(self, set_cells: Ints) -> Bins:
        """Bins for a group with so many cells of studies of every set, int64 (n_sets,)."""
        present = np.flatnonzero(set_cells)
        parts = set_cells[present] // max(1, np.gcd.reduce(set_cells))
        key = present.tobytes(), parts.tobytes()
        bins = self._bins.get(key)
        if bins is None:
            share = parts @ self._sets[present] / max(1, parts.sum())
            bins = match_genes(share * self._detection, share * self._mean)
            if len(self._bins) >= _MOST_KEPT:
                self._bins.clear()
            self._bins[key] = bins
        return bins

    def of_groups(self, set_cells: Ints, check: Callable[[], None] = lambda: None) -> list[tuple[Ints, Bins]]:
        """Groups, by their index in ``set_cells`` int64 (n_groups, n_sets), and the bins of each of them.

        ``check`` is called between groups and may raise.
        """
        found: dict[int, tuple[list[int], Bins]] = {}
        for group, cells in enumerate(set_cells):
            check()
            bins = self.bins(cells)
            found.setdefault(id(bins), ([], bins))[0].append(group)
        return [(np.array(groups, np.int64), bins) for groups, bins in found.values()]


def mixed_together(counts: Any) -> Ints | None:
    """Cells by set, int64 (n_sets,), of all groups whose studies measured different genes, if they are many.

    ``counts``: scipy CSR (n_groups, n_sets), cells of every group by the set that their study measured. None
    where there are no more than `MOST_MIXED` proportions of sets, which then have bins of their own.
    """
    mixed = np.flatnonzero(np.diff(counts.indptr) > 1)
    proportions = set()
    for group in mixed.tolist():
        row = slice(counts.indptr[group], counts.indptr[group + 1])
        parts = counts.data[row] // np.gcd.reduce(counts.data[row])
        proportions.add((counts.indices[row].tobytes(), parts.tobytes()))
        if len(proportions) > MOST_MIXED:
            return np.asarray(counts[mixed].sum(axis=0), np.int64).ravel()
    return None
