"""What an atlas holds: answers of `studies`, `fields` and `info`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StudyInfo:
    """One study. ``size_bytes``: its files; ``source``: name of the file that it was built from.

    ``recipe``: how its attributions were made (model, method, ...), a JSON object; empty if nobody said.
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
    """The atlas as a whole. ``size_bytes``: shards and catalog; ``signed``: some attribution is negative."""

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
