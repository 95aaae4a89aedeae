"""Normalisations that models were trained on; all keep zeros zero."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_matrix


def log_normalised(counts: csr_matrix, total: float = 1e4) -> csr_matrix:
    """log1p of counts (n_cells, n_genes) scaled to sum ``total`` a cell: scanpy's normalize_total and log1p.

    The sum is over the genes given: a model's, of which `sc-signature` takes the sum too. Empty cells stay
    empty. float32.
    """
    sums = np.asarray(counts.sum(axis=1, dtype=np.float64)).ravel()
    scale = np.divide(total, sums, out=np.zeros_like(sums), where=sums > 0)
    data = np.log1p(counts.data * np.repeat(scale, np.diff(counts.indptr)))
    return csr_matrix((data.astype(np.float32), counts.indices, counts.indptr), counts.shape)


def log1p_counts(counts: csr_matrix) -> csr_matrix:
    """log1p of counts (n_cells, n_genes) as they are, float32."""
    data = np.log1p(counts.data, dtype=np.float32)
    return csr_matrix((data, counts.indices, counts.indptr), counts.shape)
