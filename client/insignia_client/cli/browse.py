"""`insignia studies`, `fields` and `cells`: what an atlas holds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import click
import numpy as np

from insignia_client.cli import options, render
from insignia_client.cli.backend import Backend, open_backend
from insignia_client.cli.output import chosen_format, write_text
from insignia_model import CellId, Column, FieldInfo, StudyInfo, Table

#: Headings of the printed tables; csv and json keep the columns' names.
HEADINGS = {
    "n_cells": "cells",
    "n_samples": "samples",
    "n_genes_measured": "genes",
    "n_postings": "postings",
    "n_studies": "studies",
    "n_values": "distinct",
    "size_bytes": "size",
}


@click.command(short_help="Studies of an atlas.")
@options.source
@options.output
def studies(**given: Any) -> None:
    """List the studies, in the order in which ties are broken."""
    found: list[StudyInfo] = _asked(given, lambda backend: backend.studies())
    _write(given, studies_table(found), lambda: [asdict(study) for study in found])


@click.command(short_help="Metadata fields of an atlas.")
@options.source
@click.option("--max-values", default=20, show_default=True, metavar="N", help="Commonest values per field.")
@options.output
def fields(max_values: int, **given: Any) -> None:
    """List the metadata fields: what --where and --group-by may name."""
    found: list[FieldInfo] = _asked(given, lambda backend: backend.fields(max_values))
    _write(given, fields_table(found), lambda: [asdict(f) | {"values": dict(f.values)} for f in found])


@click.command(short_help="Metadata of cells.")
@options.source
@click.argument("ids", nargs=-1, required=True, metavar="STUDY:CELL_ID...")
@options.output
def cells(ids: tuple[str, ...], **given: Any) -> None:
    """Show all metadata of cells, in the order given."""
    asked = [CellId.of(text) for text in ids]
    table: Table = _asked(given, lambda backend: backend.cells(asked))
    fixed = ("study", "cell_id")
    _write(given, table, lambda: [{n: row.pop(n) for n in fixed} | {"metadata": row} for row in table.rows()])


def studies_table(studies: list[StudyInfo]) -> Table:
    """One row per study."""
    return Table(
        {
            "study": Column.text([s.study for s in studies]),
            "n_cells": Column.integers([s.n_cells for s in studies]),
            "n_samples": Column.integers([s.n_samples for s in studies]),
            "n_genes_measured": Column.integers([s.n_genes_measured for s in studies]),
            "n_postings": Column.integers([s.n_postings for s in studies]),
            "size_bytes": Column.integers([s.size_bytes for s in studies]),
            "signed": Column("bool", np.array([s.signed for s in studies], dtype=np.bool_)),
            "revision": Column.integers([s.revision for s in studies]),
            "source": Column.text([s.source for s in studies]),
            "recipe": Column.text([s.recipe or None for s in studies]),
        }
    )


def fields_table(fields: list[FieldInfo]) -> Table:
    """One row per field; the commonest values as one text."""
    return Table(
        {
            "field": Column.text([f.field for f in fields]),
            "kind": Column.text([f.kind for f in fields]),
            "n_studies": Column.integers([f.n_studies for f in fields]),
            "n_cells": Column.integers([f.n_cells for f in fields]),
            "n_values": Column.integers([f.n_values for f in fields]),
            "minimum": Column.numbers([np.nan if f.minimum is None else f.minimum for f in fields]),
            "maximum": Column.numbers([np.nan if f.maximum is None else f.maximum for f in fields]),
            "values": Column.text(["; ".join(f"{v} ({n:,})" for v, n in f.values) or None for f in fields]),
        }
    )


def _asked(given: dict[str, Any], question: Callable[[Backend], Any]) -> Any:
    with open_backend(given["atlas"], given["server"], given["timeout_s"]) as backend:
        return question(backend)


def _write(given: dict[str, Any], table: Table, as_json: Callable[[], Any]) -> None:
    match chosen_format(given["shape"], given["out"]):
        case "json":
            text = render.json_text(as_json())
        case "csv":
            text = render.csv_text(table)
        case _:
            text = render.whole_table(table, HEADINGS)
    write_text(text, given["out"])
