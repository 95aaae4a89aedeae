"""`insignia search`: best cells and hit statistics of a signature."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from insignia_client.cli import options, render, tests
from insignia_client.cli.backend import open_backend
from insignia_client.cli.filters import note_filter
from insignia_client.cli.genes import genes_text, inexact_text
from insignia_client.cli.output import chosen_format, problems_of, write_text
from insignia_client.cli.render import Shown
from insignia_model import SearchRequest, SearchResult, Table
from insignia_model.result import CELL_COLUMNS, cell_columns

TABLES = ("groups", "cells", "samples", "tests")
#: What a table shows for people; --format csv and json have everything.
MOST_GROUPS = 40
MOST_CELLS = 10
NO_GROUPS = "no groups: the engine has not scored all cells; --groups asks for them\n"

#: Statistics of a group: column, heading, how it is written.
STATISTICS: tuple[tuple[str, str, Callable[[Any], str] | None], ...] = (
    ("n_cells", "cells", None),
    ("n_hits", "hits", None),
    ("hit_fraction", "hit %", render.percent),
    ("mean", "mean", None),
    ("sd", "sd", None),
    ("median", "median", None),
    ("p90", "p90", None),
    ("max", "max", None),
    ("n_samples", "samples", None),
    ("sample_hit_fraction_mean", "mean hit %", render.percent),
    ("sample_hit_fraction_median", "median hit %", render.percent),
    ("null_mean", "null mean", None),
    ("null_z", "null z", None),
    ("null_p", "null p", None),
    ("null_fdr", "null FDR", None),
)

#: Fields that tell a biologist most about a cell, best first: parts of their names.
TELLING = ("cell_type", "celltype", "tissue", "disease", "condition", "treatment", "sample", "donor", "sex")


@click.command(short_help="Best cells and hit statistics of a signature.")
@options.source
@options.signature
@options.question
@options.statistics
@click.option(
    "--null",
    is_flag=True,
    help="Also compare each group's mean with random signatures of like genes: z, p (upper tail), FDR.",
)
@tests.options
@options.engine
@options.output
@click.option(
    "--table",
    "which",
    type=click.Choice(TABLES),
    help="Table that is printed; default for csv: groups.",
)
@options.plot
def search(**given: Any) -> None:
    """Score every cell with a signature, and print the best cells and how many hits each group has.

    \b
      insignia search --server 127.0.0.1:50051 --genes ISG15,IFI6,IFIT1 --group-by cell_type
      insignia search --atlas my.atlas --signature hallmark.gmt --name HALLMARK_HYPOXIA \\
          --where tissue=lung --hits zscore:2 --plot hypoxia.png
    """
    request, shape = _request(given), chosen_format(given["shape"], given["out"])
    if given["which"] and shape == "json":
        raise click.UsageError("--table is for --format table and csv; json has one object with all")
    if given["which"] == "tests" and not request.has_tests:
        raise click.UsageError("--table tests needs --compare or --contrast FIELD=VALUE:REFERENCE")
    with open_backend(given["atlas"], given["server"], given["timeout_s"]) as backend:
        result = backend.run(request)
        show(result, given, shape)
        note_filter(backend, request.where, result.n_cells)


def show(result: SearchResult, given: dict[str, Any], shape: str) -> None:
    """Print or write the answer, and draw it, as the options say."""
    write_text(_text(result, shape, given["which"]), given["out"])
    if plot := given["plot"]:
        with problems_of("--plot", plot):
            result.plot(path=plot)


def _request(given: dict[str, Any]) -> SearchRequest:
    return SearchRequest.of(
        options.read_signature(given),
        k=given["k"],
        where=given["where"],
        group_by=options.field_names(given["group_by"]),
        hits=given["hits"],
        aggregate=given["aggregate"],
        quantiles=given["quantiles"],
        min_cells=given["min_cells"],
        min_coverage=given["min_coverage"],
        contrasts=given["contrasts"],
        compare=given["compare"],
        min_samples=given["min_samples"],
        strict=given["strict"],
        null=given["null"],
        **options.engine_options(given),
    )


def _text(result: SearchResult, shape: str, which: str | None) -> str:
    if shape == "json":
        return render.json_text(result.to_dict())
    if shape == "csv":
        which = which or ("groups" if result.group_table.columns else "cells")
        table: Table = getattr(result, f"{which[:-1]}_table")
        return render.csv_text(table)
    if which:
        parts = {
            "groups": groups_text,
            "cells": cells_text,
            "samples": samples_text,
            "tests": tests.tests_text,
        }
        return f"{summary_text(result)}\n{parts[which](result)}"
    tables = [
        write(result)
        for table, write in (
            (result.group_table, groups_text),
            (result.test_table, tests.tests_text),
            (result.cell_table, cells_text),
        )
        if len(table)
    ]
    return "\n".join([summary_text(result), *tables])


def summary_text(result: SearchResult) -> str:
    """Lines above the tables: what was found, and which genes were not."""
    if result.n_hits is None:
        found = f"best {len(result.cell_table):,} of {result.n_cells:,} cells"
    else:
        sign = "≥" if result.hits.startswith("top") else ">"
        cutoff = "no cell passes the filter" if result.cutoff is None else f"score {sign} {result.cutoff:.4g}"
        found = f"{result.n_hits:,} of {result.n_cells:,} cells are hits ({result.hits}: {cutoff})"
    return (
        f"{result.signature}: {found}\n{genes_text(result.genes)}; {result.aggregate} score, "
        f"{result.engine_text}, {result.elapsed_ms:.1f} ms\n{inexact_text(result.genes)}"
        + "".join(f"Note: {note}\n" for note in result.notes)
    )


def groups_text(result: SearchResult) -> str:
    """Groups in the order given: highest hit fraction first."""
    if not result.group_table.columns:
        return NO_GROUPS
    table, n_genes = result.group_table.head(MOST_GROUPS), result.genes.n_genes
    columns = [render.shown(table, field) for field in result.group_by]
    columns += [
        render.shown(table, name, heading, write)
        for name, heading, write in STATISTICS
        if name in table.columns
    ]
    columns.append(render.shown(table, "n_genes_measured", "genes", lambda n: f"{n}/{n_genes}"))
    return _with_rest(columns, len(columns), len(result.group_table), "groups")


def cells_text(result: SearchResult) -> str:
    """Best cells, with the fields that tell most and fit."""
    table = result.cell_table.head(MOST_CELLS)
    known = cell_columns(table)
    headings = {"score_up": "up", "score_down": "down"} if known != CELL_COLUMNS else {}
    shown = (*known, *_fields_to_show(result, table))
    columns = [render.shown(table, name, headings.get(name)) for name in shown]
    return _with_rest(columns, len(known), len(result.cell_table), "cells")


def samples_text(result: SearchResult) -> str:
    """Every sample of every group."""
    if not result.sample_table.columns:
        return NO_GROUPS
    table = result.sample_table
    written = {
        "hit_fraction": ("hit %", render.percent),
        "n_cells": ("cells", None),
        "n_hits": ("hits", None),
    }
    columns = [render.shown(table, name, *written.get(name, (None, None))) for name in table.columns]
    return _with_rest(columns, len(columns), len(table), "samples")


def _fields_to_show(result: SearchResult, table: Table) -> list[str]:
    """Metadata fields of the cells: those of the groups, telling ones, other categories, numbers."""

    def rank(name: str) -> tuple[int, int]:
        column, lower = table[name], name.lower()
        if name in result.group_by:
            return 0, result.group_by.index(name)
        telling = [place for place, part in enumerate(TELLING) if part in lower]
        if telling and "ontology" not in lower and not lower.endswith("_id"):
            return 1, telling[0]
        return (2 if column.kind in ("category", "bool") else 3), 0

    fields = [name for name in table.columns if name not in cell_columns(table)]
    return sorted((f for f in fields if any(v is not None for v in table[f].to_list())), key=rank)


def _with_rest(columns: list[Shown], n_always: int, n_rows: int, what: str) -> str:
    fits = render.fitting(columns, n_always, render.width_of_output())
    n_shown, notes = len(columns[0].texts), []
    if n_rows > n_shown:
        notes.append(f"{n_rows - n_shown:,} more {what}: --format csv --table {what}")
    if len(fits) < len(columns):
        notes.append(f"{len(columns) - len(fits)} more fields")
    return render.text_table(fits) + (f"({'; '.join(notes)})\n" if notes else "")
