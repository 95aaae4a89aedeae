"""What an atlas holds: answers of `studies`, `fields` and `info`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StudyInfo:
    """One study. ``size_bytes``: its files; ``source``: name of the file that it was built from.

    ``recipe``: how its attributions were made (model, method, ...), a JSON object; empty if nobody said.
    ``faiss``: its FAISS index, exact or projected, empty if it has none; ``faiss_kept``: share of the
    squared norm of its attributions that the projection keeps. A study that keeps far less than the others
    is unlike the cells that the projection was learned on.
    """

    study: str
    n_cells: int
    n_samples: int
    n_genes_measured: int
    n_postings: int
    size_bytes: int
    revision: int
    source: str
    signed: bool
    recipe: str = ""
    faiss: str = ""
    faiss_kept: float = 1.0


@dataclass(frozen=True, slots=True)
class FieldInfo:
    """One metadata field over all studies. ``kind``: category, number, integer or bool.

    ``n_cells`` have a value. Categories: ``n_values`` distinct ones, of which ``values`` shows the
    commonest with their cell counts. Numbers: ``minimum`` and ``maximum``.
    """

    field: str
    kind: str
    n_studies: int
    n_cells: int
    n_values: int = 0
    values: tuple[tuple[str, int], ...] = ()
    minimum: float | None = None
    maximum: float | None = None


@dataclass(frozen=True, slots=True)
class AtlasInfo:
    """The atlas as a whole. ``size_bytes``: shards and catalog; ``signed``: some attribution is negative.

    ``faiss``: its codec and the recall that was measured with it, a JSON object; empty if there is none.
    ``digest``: of the vocabulary, all studies and the gene table; another content has another one.
    ``device``: the GPU on which ``n_cells_on_device`` of the cells are searched; empty without one.
    """

    format_version: int
    revision: int
    n_studies: int
    n_samples: int
    n_cells: int
    n_genes: int
    n_postings: int
    size_bytes: int
    value_dtype: str
    signed: bool
    engines: tuple[str, ...]
    faiss: str = ""
    digest: str = ""
    device: str = ""
    n_cells_on_device: int = 0
