"""AnnData on disk (h5ad, zarr), read chunk by chunk."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix

from insignia_index.build.errors import (
    CorruptMatrix,
    MissingField,
    ShapeMismatch,
    UnreadableInput,
    UnreadableLayer,
    UnsupportedMatrix,
)
from insignia_index.build.inputs import InputFile

#: What the HDF5, zarr and codec libraries raise on damaged data.
_READ_ERRORS = (OSError, KeyError, ValueError, TypeError, RuntimeError, IndexError)


class AnnDataSource:
    """One matrix of an AnnData group (h5py or zarr), with genes and obs."""

    def __init__(self, file: InputFile, group: Any) -> None:
        from anndata.io import read_elem

        self._path = file.path
        for name in ("obs", "var"):
            if name not in group:
                raise UnreadableInput(file.path, f"it is not AnnData: it has no {name!r}")
        try:
            self.obs: pd.DataFrame = read_elem(group["obs"])
            var: pd.DataFrame = read_elem(group["var"])
        except _READ_ERRORS as error:
            raise UnreadableInput(file.path, f"obs or var cannot be read ({error})") from error
        if file.gene_field is not None and file.gene_field not in var:
            raise MissingField(
                file.path,
                file.gene_field,
                f"is not in var; it has {', '.join(map(str, var.columns)) or 'none'}",
            )
        names = var.index if file.gene_field is None else var[file.gene_field]
        self.genes = [str(name) for name in names]
        self._matrix = _open_matrix(file, group)
        shape = self._matrix.shape
        if shape != (len(self.obs), len(self.genes)):
            if shape[0] != len(self.obs):
                raise ShapeMismatch(file.path, "obs", len(self.obs), shape[0])
            raise ShapeMismatch(file.path, "var", len(self.genes), shape[1])
        self.n_stored = _n_stored(self._matrix)

    def read(self, first: int, last: int) -> csr_matrix:
        """Rows [first, last) as CSR float32."""
        try:
            rows = self._matrix[first:last]
        except _READ_ERRORS as error:
            raise CorruptMatrix(
                self._path, f"cells {first:,} to {last:,} cannot be read ({error})"
            ) from error
        if isinstance(rows, np.ndarray):
            return csr_matrix(as_single(rows))
        check_csr(self._path, rows, last - first)
        chunk: csr_matrix = as_single(rows)
        return chunk


def as_single(rows: Any) -> Any:
    """Rows as float32; what it cannot hold becomes infinite, and is refused as such."""
    with np.errstate(over="ignore"):
        return rows.astype(np.float32, copy=False)


def check_csr(path: Any, chunk: Any, n_rows: int) -> None:
    """Raise `CorruptMatrix` unless the row pointers are those of ``n_rows`` rows."""
    indptr = chunk.indptr
    if len(indptr) != n_rows + 1 or indptr[0] != 0 or (np.diff(indptr) < 0).any():
        raise CorruptMatrix(path, "its row pointers do not ascend")
    if indptr[-1] != len(chunk.indices) or indptr[-1] != len(chunk.data):
        raise CorruptMatrix(path, "its row pointers do not match its values")


def _open_matrix(file: InputFile, group: Any) -> Any:
    from anndata.io import sparse_dataset

    layers = sorted(group["layers"]) if "layers" in group else []
    key = "X" if file.layer is None or file.layer == "X" else f"layers/{file.layer}"
    unreadable = UnreadableLayer(file.path, file.layer or "X", layers)
    if key not in group:
        raise unreadable
    element = group[key]
    try:
        encoding = element.attrs.get("encoding-type", "array")
        if encoding == "csc_matrix":
            raise UnsupportedMatrix(file.path, "CSC (by gene)")
        matrix = sparse_dataset(element) if encoding == "csr_matrix" else element
        if len(matrix.shape) != 2:
            raise unreadable
        if matrix.dtype.kind not in "biuf":
            raise UnsupportedMatrix(file.path, f"{matrix.dtype}, not numbers")
    except (*_READ_ERRORS, AttributeError) as error:
        raise unreadable from error
    return matrix


def _n_stored(matrix: Any) -> int:
    data = getattr(matrix, "group", {}).get("data") if hasattr(matrix, "group") else None
    return int(matrix.shape[0] * matrix.shape[1] if data is None else data.shape[0])


@contextmanager
def open_h5ad(file: InputFile) -> Iterator[AnnDataSource]:
    """Open an .h5ad file."""
    import h5py

    try:
        handle = h5py.File(file.path, "r")
    except OSError as error:
        raise UnreadableInput(file.path, f"it is not an h5ad file, or it is cut off ({error})") from error
    with handle:
        yield AnnDataSource(file, handle)


@contextmanager
def open_zarr(file: InputFile) -> Iterator[AnnDataSource]:
    """Open an AnnData .zarr directory."""
    import zarr

    try:
        group = zarr.open_group(str(file.path), mode="r")
    except Exception as error:  # zarr 2 and 3 raise classes of their own without a common base
        raise UnreadableInput(file.path, f"it is not a zarr group ({error})") from error
    yield AnnDataSource(file, group)
