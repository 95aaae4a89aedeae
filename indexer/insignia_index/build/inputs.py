"""Input files: one matrix, its genes, its cells' metadata."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from insignia_index.build.errors import UnreadableInput
from insignia_index.format.files import tree_digest
from insignia_model.optional import extra

if TYPE_CHECKING:
    import pandas as pd
    from scipy.sparse import csr_matrix

    from insignia_index.attribution.recipe import Attribution


@dataclass(frozen=True, slots=True)
class InputFile:
    """A file to index and how to read it.

    ``layer``: matrix to use instead of X; ``raw`` means raw.X, if there is no such layer.
    ``study``: name for all its cells, else the column ``study_field`` tells, else the column ``study`` if
    there is one, else the file's name.
    ``gene_field``: column of ``var`` with the symbols, else its index.
    ``metadata`` (CSV, TSV or Parquet; first column: cell ids) and ``genes`` (one a line) go with .npz.
    ``attribution``: the matrix holds counts, of which attributions are made in passing.
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
    attribution: Attribution | None = None

    def __post_init__(self) -> None:
        for name in ("path", "metadata", "genes"):
            if isinstance(given := getattr(self, name), str):
                object.__setattr__(self, name, Path(given))

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
        if self.attribution is not None:
            parts.append(self.attribution.digest())
        return "-".join([*parts, value_dtype, repr(options)])


def _digest(path: Path) -> str:
    if not path.exists():
        raise UnreadableInput(path, "there is no such file")
    try:
        return tree_digest(path)
    except OSError as error:
        raise UnreadableInput(path, f"it cannot be read ({error.strerror})") from error


class Source(Protocol):
    """An open input. ``recipe``: how its attributions were made, empty if nobody says; complete when read."""

    genes: list[str]
    obs: pd.DataFrame
    n_stored: int

    @property
    def recipe(self) -> Mapping[str, Any]:
        """See above."""

    def read(self, first: int, last: int) -> csr_matrix:
        """Rows [first, last) as CSR float32."""


@contextmanager
def open_source(file: InputFile) -> Iterator[Source]:
    """Open an input by its kind: .h5ad, .zarr, .npz; or the attributions made of it."""
    if file.attribution is not None:
        from insignia_index.attribution.source import open_attributed

        with extra("attribution", "making attributions"), open_attributed(file) as attributed:
            yield attributed
        return
    from insignia_index.build.anndata_source import open_h5ad, open_zarr
    from insignia_index.build.npz_source import open_npz

    openers: dict[str, Any] = {".h5ad": open_h5ad, ".h5": open_h5ad, ".zarr": open_zarr, ".npz": open_npz}
    with openers[_kind(file)](file) as source:
        yield source


def matrix_names(file: InputFile) -> list[str]:
    """What ``InputFile.layer`` can be: X, raw, and the layers."""
    from insignia_index.build.anndata_source import names_h5ad, names_zarr

    kind = _kind(file)
    if kind == ".npz":
        return ["X"]
    return names_zarr(file) if kind == ".zarr" else names_h5ad(file)


def _kind(file: InputFile) -> str:
    if file.path.suffix not in (".h5ad", ".h5", ".zarr", ".npz"):
        raise UnreadableInput(file.path, "the name must end in .h5ad, .zarr or .npz")
    return file.path.suffix
