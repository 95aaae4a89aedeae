"""AnnData on disk (h5ad, zarr), read chunk by chunk."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix

from insignia_index.build.errors import (
    CorruptMatrix,
    InvalidText,
    MissingField,
    ShapeMismatch,
    UnreadableInput,
    UnreadableLayer,
    UnsupportedMatrix,
)
from insignia_index.build.inputs import InputFile

_RAW = "raw/X"
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
        if file.metadata is not None or file.genes is not None:
            option = "--metadata" if file.metadata is not None else "--genes-file"
            raise UnreadableInput(
                file.path, f"{option} is for .npz, and this file has obs and var: leave it out"
            )
        key = _matrix_key(file, group)
        try:
            self.obs: pd.DataFrame = read_elem(group["obs"])
            var: pd.DataFrame = read_elem(group["raw/var" if key == _RAW else "var"])
        except Exception as error:  # of many libraries, some without a common base
            raise UnreadableInput(file.path, f"obs or var cannot be read ({error})") from error
        if not isinstance(self.obs, pd.DataFrame) or not isinstance(var, pd.DataFrame):
            raise UnreadableInput(
                file.path,
                "it is of an anndata before 0.7; read_h5ad(FILE).write_h5ad(FILE) brings it up to date",
            )
        if file.gene_field is not None and file.gene_field not in var:
            raise MissingField(
                file.path,
                file.gene_field,
                f"is not in var; it has {', '.join(map(str, var.columns)) or 'none'}",
            )
        names = var.index if file.gene_field is None else var[file.gene_field]
        if names.isna().any():
            where = "var_names" if file.gene_field is None else f"column {file.gene_field!r} of var"
            number = int(np.argmax(names.isna())) + 1
            raise InvalidText(
                file.path, f"gene {number:,} in {where}", "has no name; give it one, or leave it out"
            )
        self.genes = [str(name).strip() for name in names]  # as the names of signatures are
        self._matrix = _open_matrix(file, group, key)
        self.recipe = _recipe(group)
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


def _matrix_key(file: InputFile, group: Any) -> str:
    """Where the matrix is: a layer's name comes before ``raw``."""
    names = matrix_names(group)
    name = file.layer or "X"
    if name not in names:
        raise _unreadable(file, group)
    if name == "X":
        return "X"
    return f"layers/{name}" if "layers" in group and name in group["layers"] else _RAW


def _unreadable(file: InputFile, group: Any) -> UnreadableLayer:
    layers = [name for name in matrix_names(group) if name != "X"]
    return UnreadableLayer(file.path, file.layer or "X", layers)


def matrix_names(group: Any) -> list[str]:
    """What can be named as a matrix: X, raw, and the layers."""
    layers = sorted(group["layers"]) if "layers" in group else []
    return [
        *(["X"] if "X" in group else []),
        *layers,
        *(["raw"] if _RAW in group and "raw/var" in group and "raw" not in layers else []),
    ]


def _open_matrix(file: InputFile, group: Any, key: str) -> Any:
    from anndata.io import sparse_dataset

    unreadable = _unreadable(file, group)
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
        if encoding == "csr_matrix":
            if matrix.dtype == np.float16 or not matrix.dtype.isnative:  # scipy knows neither
                raise UnsupportedMatrix(file.path, f"CSR of {matrix.dtype.str}; write it as float32")
            _check_chunks(file.path, element["data"])
    except (*_READ_ERRORS, AttributeError) as error:
        raise unreadable from error
    return matrix


def _check_chunks(path: Any, data: Any) -> None:
    """Raise `CorruptMatrix` if parts of the values are missing, which zarr would read as zeros."""
    there, wanted = getattr(data, "nchunks_initialized", None), getattr(data, "nchunks", None)
    if there is not None and there < wanted:
        problem = f"{wanted - there:,} of the {wanted:,} chunks of its values are not there"
        raise CorruptMatrix(path, f"{problem}; copy it again, or eliminate_zeros() if they were zeros")


def _n_stored(matrix: Any) -> int:
    data = getattr(matrix, "group", {}).get("data") if hasattr(matrix, "group") else None
    return int(matrix.shape[0] * matrix.shape[1] if data is None else data.shape[0])


def _recipe(group: Any) -> dict[str, Any]:
    """How the attributions were made, where the file says; numbers and words as JSON has them."""
    from anndata.io import read_elem

    try:
        found = read_elem(group["uns/attribution"])
        recipe: dict[str, Any] = json.loads(json.dumps(found, default=_plain))
    except Exception:  # of many libraries; what cannot be read is not told
        return {}
    return recipe if isinstance(recipe, dict) else {}


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    raise TypeError(type(value).__name__)


@contextmanager
def open_h5ad(file: InputFile) -> Iterator[AnnDataSource]:
    """Open an .h5ad file."""
    with _h5ad_group(file) as group:
        yield AnnDataSource(file, group)


@contextmanager
def open_zarr(file: InputFile) -> Iterator[AnnDataSource]:
    """Open an AnnData .zarr directory."""
    yield AnnDataSource(file, _zarr_group(file))


def names_h5ad(file: InputFile) -> list[str]:
    """`matrix_names` of an .h5ad file."""
    with _h5ad_group(file) as group:
        return matrix_names(group)


def names_zarr(file: InputFile) -> list[str]:
    """`matrix_names` of an AnnData .zarr directory."""
    return matrix_names(_zarr_group(file))


@contextmanager
def _h5ad_group(file: InputFile) -> Iterator[Any]:
    import h5py

    try:
        handle = h5py.File(file.path, "r")
    except OSError as error:
        raise UnreadableInput(file.path, f"it is not an h5ad file, or it is cut off ({error})") from error
    with handle:
        yield handle


def _zarr_group(file: InputFile) -> Any:
    import zarr

    try:
        return zarr.open_group(str(file.path), mode="r")
    except Exception as error:  # zarr 2 and 3 raise classes of their own without a common base
        raise UnreadableInput(file.path, f"it is not a zarr group ({error})") from error
