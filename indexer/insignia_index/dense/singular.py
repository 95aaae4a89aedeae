"""Singular vectors of the attributions of many cells, on all threads."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt

from insignia_index.kernels.combine import WIDTH, multiply

#: Vectors besides those that are asked for, at least; with so many, and power iterations, those are good.
_OVERSAMPLES = 10
_N_ITERATIONS = 2

Floats = npt.NDArray[np.float32]


def right_singular_vectors(cells: Any, n: int, seed: int = 0) -> Floats:
    """The ``n`` of the largest singular values, float32 (n_genes, n), of a scipy CSR matrix (any, n_genes).

    Randomised, with power iterations: Halko, Martinsson, Tropp, SIAM Review 53 (2011), algorithms 4.4 and
    5.1. ``n`` is at most the smaller side. Not scikit-learn's, which does the same on one thread, in twice
    the time: its products keep totals in memory.
    """
    import scipy.linalg as la

    n_vectors = min(*cells.shape, -(-(n + _OVERSAMPLES) // WIDTH) * WIDTH)
    by_gene = cells.tocsc()
    some = np.random.default_rng(seed).standard_normal((cells.shape[0], n_vectors), np.float32)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for _ in range(_N_ITERATIONS):
            basis, _ = la.qr(_product(pool, by_gene, some), mode="economic", check_finite=False)
            some, _ = la.qr(_product(pool, cells, basis), mode="economic", check_finite=False)
        basis, _ = la.qr(_product(pool, by_gene, some), mode="economic", check_finite=False)
        seen = _product(pool, cells, basis).astype(np.float64)
    _, turn = np.linalg.eigh(seen.T @ seen)  # ascending
    found: Floats = np.ascontiguousarray(basis @ turn[:, ::-1][:, :n].astype(np.float32))
    return found


def _product(pool: ThreadPoolExecutor, sparse: Any, matrix: Floats) -> Floats:
    """A CSR matrix, or the transpose of a CSC matrix, times ``matrix``."""
    matrix, indices = np.ascontiguousarray(matrix), sparse.indices.astype(np.int32, copy=False)
    n_rows = len(sparse.indptr) - 1
    out = np.empty((n_rows, matrix.shape[1]), np.float32)
    # parts of about equal numbers of values
    edges = np.searchsorted(sparse.indptr, np.linspace(0, sparse.nnz, 4 * (os.cpu_count() or 1) + 1))
    edges[0], edges[-1] = 0, n_rows

    def part(i: int) -> None:
        multiply(sparse.indptr, indices, sparse.data, matrix, edges[i], edges[i + 1], out)

    list(pool.map(part, range(len(edges) - 1)))
    return out
