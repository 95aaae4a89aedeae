"""Input files: one matrix, its genes, its cells' metadata."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from insignia_index.build.errors import UnreadableInput
from insignia_index.format.files import tree_digest

if TYPE_CHECKING:
    import pandas as pd
    from scipy.sparse import csr_matrix


@dataclass(frozen=True, slots=True)
class InputFile:
    """A file to index and how to read it.

    ``layer``: matrix to use instead of X. ``study``: name for all its cells, else the column
    ``study_field`` tells, else the column ``study`` if there is one, else the file's name.
    ``gene_field``: column of ``var`` with the symbols, else its index.
    ``metadata`` (CSV, TSV or Parquet; first column: cell ids) and ``genes`` (one a line) go with .npz.
    """

    path: Path
    layer: str | None = None
    study: str | None = None
    study_field: str | None = None
    sample_field: str | None = None
    gene_field: str | None = None
    metadata: Path | None = None
    genes: Path | None = None
    drop_fields: tuple[str, ...] = ()

    def digest(self, value_dtype: str) -> str:
        """Digest of the content and of every option that changes what is built from it."""
        parts = [_digest(p) for p in (self.path, self.metadata, self.genes) if p is not None]
        options = (
            self.layer,
            self.study,
            self.study_field,
            self.sample_field,
            self.gene_field,
            self.drop_fields,
        )
        return "-".join([*parts, value_dtype, repr(options)])


def _digest(path: Path) -> str:
    if not path.exists():
        raise UnreadableInput(path, "there is no such file")
    try:
        return tree_digest(path)
    except OSError as error:
        raise UnreadableInput(path, f"it cannot be read ({error.strerror})") from error


class Source(Protocol):
    """An open input."""

    genes: list[str]
    obs: pd.DataFrame
    n_stored: int

    def read(self, first: int, last: int) -> csr_matrix:
        """Rows [first, last) as CSR float32."""


@contextmanager
def open_source(file: InputFile) -> Iterator[Source]:
    """Open an input by its kind: .h5ad, .zarr, .npz."""
    from insignia_index.build.anndata_source import open_h5ad, open_zarr
    from insignia_index.build.npz_source import open_npz

    openers: dict[str, Any] = {".h5ad": open_h5ad, ".h5": open_h5ad, ".zarr": open_zarr, ".npz": open_npz}
    opener = openers.get(file.path.suffix)
    if opener is None:
        raise UnreadableInput(file.path, "the name must end in .h5ad, .zarr or .npz")
    with opener(file) as source:
        yield source
