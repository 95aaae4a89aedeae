"""Projections of queries, and what they leave. Components are float16 bits uint16 (n, d).

BLAS would wake its threads for these, and wait for them longer than one takes.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from insignia_index.kernels.memory import half_to_float


@njit(nogil=True, fastmath={"contract"})
def _add_scaled(total, component, value):
    for j in range(len(total)):
        total[j] += value * half_to_float(component[j])


@njit(nogil=True, cache=True)
def project_query(genes, weights, components, out):
    """Add ``weights`` float32 (n,) times the components of their ``genes`` int64 (n,) to ``out`` (d,)."""
    for i in range(len(genes)):
        if genes[i] < len(components):
            _add_scaled(out, components[genes[i]], weights[i])


@njit(nogil=True, fastmath={"reassoc", "contract"})
def _dot(component, vector):
    total = np.float32(0.0)
    for j in range(len(vector)):
        total += half_to_float(component[j]) * vector[j]
    return total


@njit(nogil=True, cache=True)
def subtract_explained(genes, components, projection, weights):
    """Subtract from ``weights`` float32, by gene, what a projection says of ``genes`` int64 (n,).

    ``components`` uint16 (n, d): of those genes; ``projection`` float32 (d,).
    """
    for i in range(len(genes)):
        weights[genes[i]] -= _dot(components[i], projection)


@njit(nogil=True, cache=True, fastmath={"reassoc", "contract"})
def inner_products(matrix, vector, out):
    """Write ``matrix`` float32 (n, d) times ``vector`` float32 (d,) to ``out`` float32 (n,)."""
    for i in range(len(matrix)):
        total = np.float32(0.0)
        for j in range(len(vector)):
            total += matrix[i, j] * vector[j]
        out[i] = total
