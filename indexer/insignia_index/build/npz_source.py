"""scipy CSR in .npz, with a metadata table and a gene list beside it."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix

from insignia_index.build.anndata_source import as_single, check_csr
from insignia_index.build.errors import (
    CorruptMatrix,
    ShapeMismatch,
    UnreadableInput,
    UnsupportedMatrix,
)
from insignia_index.build.inputs import InputFile
from insignia_index.build.tables import read_genes, read_table


class NpzSource:
    """Arrays of a .npz are compressed as wholes, so that this one input is held in memory."""

    recipe: Mapping[str, Any] = MappingProxyType({})

    def __init__(self, file: InputFile) -> None:
        self._path = file.path
        if file.metadata is None or file.genes is None:
            raise UnreadableInput(file.path, "an .npz needs --metadata TABLE and --genes-file LIST beside it")
        self.genes = read_genes(file.genes)
        if file.layer is not None or file.gene_field is not None:
            option = "--layer" if file.layer is not None else "--gene-field"
            raise UnreadableInput(file.path, f"an .npz has one matrix and no var: leave out {option}")
        # names, whatever they look like: 007 is not 7
        self.obs = read_table(file.metadata, (file.study_field or "study", file.sample_field or "sample"))
        self._matrix = _read_csr(file.path)
        n_cells, n_genes = self._matrix.shape
        if len(self.genes) != n_genes:
            raise ShapeMismatch(file.genes, "the gene list", len(self.genes), n_genes)
        if len(self.obs) != n_cells:
            raise ShapeMismatch(file.metadata, "the metadata table", len(self.obs), n_cells)
        self.n_stored = len(self._matrix.data)

    def read(self, first: int, last: int) -> csr_matrix:
        """Rows [first, last) as CSR float32."""
        rows: csr_matrix = as_single(self._matrix[first:last])
        return rows


@contextmanager
def open_npz(file: InputFile) -> Iterator[NpzSource]:
    """Open a .npz of `scipy.sparse.save_npz`."""
    yield NpzSource(file)


def _native(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Numbers of a kind that scipy knows, in the processor's order of bytes."""
    kind = values.dtype.newbyteorder("=")
    kind = np.dtype(np.float32) if kind == np.float16 else kind
    return values.astype(kind, copy=False)


def _read_csr(path: Path) -> csr_matrix:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            kind = arrays["format"].item()
            kind = kind.decode() if isinstance(kind, bytes) else kind
            if kind != "csr":
                raise UnsupportedMatrix(path, str(kind).upper())
            n_rows, n_columns = map(int, arrays["shape"])
            shape = (n_rows, n_columns)
            parts = tuple(_native(arrays[name]) for name in ("data", "indices", "indptr"))
            if parts[0].dtype.kind not in "biuf":
                raise UnsupportedMatrix(path, f"{parts[0].dtype}, not numbers")
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise UnreadableInput(path, f"it is not a scipy CSR .npz, or it is cut off ({error})") from error
    try:
        matrix = csr_matrix(parts, shape=shape)
    except ValueError as error:
        raise CorruptMatrix(path, str(error)) from error
    check_csr(path, matrix, shape[0])
    return matrix
