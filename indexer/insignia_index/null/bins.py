"""Which genes may stand for one another in a random signature: those of one bin.

Genes differ a hundredfold in how many cells detect them and in how much attribution they get; a signature of
well-detected genes scores above a random one of any genes whatever the cells do. So genes are compared with
genes that have the same detection rate and mean attribution over the whole atlas (as Tirosh et al. 2016,
doi:10.1126/science.aad0501, and Seurat's AddModuleScore do with expression). Both are cut into equally many
quantiles, detection first and the mean within it, so that a bin has about `BIN_GENES` genes: enough for a
tail, few enough that the genes of a bin are alike.

A gene that a study did not measure is absent there, not zero. It is only compared with genes that are absent
from the same studies: genes are first divided by which kinds of studies (by their measured genes) measured
them. So in a group of studies that lack a gene, it adds nothing to the score and nothing to the null. Kinds
of genes with fewer than `BIN_GENES` genes are taken together. Genes that no cell has are compared with one
another.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from insignia_index.null.pseudobulk import Pseudobulk
from insignia_index.snapshot import Snapshot

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

#: Genes of a bin, about.
BIN_GENES = 100


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


def match_genes(detection: Floats, mean: Floats, kind: Ints) -> Bins:
    """Bins of genes by detection rate, mean attribution (n_genes,) and ``kind`` (which are never mixed)."""
    of_gene = np.zeros(len(detection), np.int64)
    n_bins = 0
    for this in np.unique(kind):
        genes = np.flatnonzero(kind == this)
        detected = genes[detection[genes] > 0]
        silent = genes[detection[genes] == 0]
        if len(silent):
            of_gene[silent] = n_bins
            n_bins += 1
        if len(detected):
            n_parts = max(1, int(np.sqrt(len(detected) / BIN_GENES)))
            by_detection = detected[np.lexsort((mean[detected], detection[detected]))]
            for part in np.array_split(by_detection, n_parts):
                for similar in np.array_split(part[np.argsort(mean[part], kind="stable")], n_parts):
                    of_gene[similar] = n_bins
                    n_bins += 1
    return Bins(of_gene)


def snapshot_bins(snapshot: Snapshot, pseudobulk: Pseudobulk) -> Bins:
    """Bins of the genes of a snapshot, by the statistics that its shards keep."""
    detecting, total = pseudobulk.gene_totals()
    sets, set_of_study = snapshot.measured_sets
    n_cells = np.array([study.n_cells for study in snapshot.studies], np.float64)
    cells = np.maximum(np.bincount(set_of_study, n_cells, len(sets)) @ sets, 1)
    return match_genes(detecting / cells, total / cells, _kinds(sets, len(snapshot.genes)))


def _kinds(sets: npt.NDArray[np.bool_], n_genes: int) -> Ints:
    """Number of the sets of measured genes that have a gene, alike genes the same; small kinds are one."""
    if len(sets) < 2:
        return np.zeros(n_genes, np.int64)
    patterns = np.packbits(sets, axis=0)
    _, kind, sizes = np.unique(patterns, axis=1, return_inverse=True, return_counts=True)
    kind = kind.ravel()
    return np.where(sizes[kind] < BIN_GENES, -1, kind)
