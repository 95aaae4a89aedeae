"""`insignia explain`: which genes make a signature's groups and best cells what they are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from insignia_client.cli import options, render
from insignia_client.cli.backend import open_backend
from insignia_client.cli.filters import note_filter
from insignia_client.cli.genes import genes_text as genes_account
from insignia_client.cli.genes import inexact_text
from insignia_client.cli.output import chosen_format, problems_of, write_text
from insignia_client.cli.render import Shown
from insignia_model import Explanation, SearchRequest, Table

#: Printed and written tables: attribute of the explanation.
TABLES = {
    "groups": "group_table",
    "genes": "gene_table",
    "ranking": "gene_summary_table",
    "cells": "cell_table",
    "cell-genes": "cell_gene_table",
}
#: What a table shows for people; --format csv and json have everything.
MOST_GROUPS = 30
MOST_GENES = 15
MOST_CELLS = 10
#: Genes that are named beside a group or a cell.
NAMED_GENES = 4


@click.command(short_help="Which genes make a signature's result.")
@options.source
@options.signature
@options.question
@click.option("-k", "k", default=20, show_default=True, metavar="N", help="Number of best cells to explain.")
@click.option(
    "--group-by",
    multiple=True,
    default=["study"],
    show_default=True,
    metavar="FIELD",
    help="Field of the groups; several (or with commas): one group per tuple of values.",
)
@click.option(
    "--hits",
    default="percentile:95",
    show_default=True,
    metavar="RULE",
    help="percentile:P, quantile:Q, value:SCORE, zscore:Z or top:N.",
)
@click.option(
    "--min-cells", default=10, show_default=True, metavar="N", help="Groups with fewer cells are not ranked."
)
@options.output
@click.option(
    "--table",
    "which",
    type=click.Choice(list(TABLES)),
    help="groups; genes of the groups; ranking of the groups without each gene; cells; genes of the cells. "
    "Default for csv: genes.",
)
@click.option(
    "--plot", type=click.Path(path_type=Path), metavar="FILE", help="Draw the groups' genes: .png or .svg."
)
def explain(**given: Any) -> None:
    """Say what each gene adds to the mean score of every group and to the score of the best cells.

    \b
      insignia explain --atlas my.atlas --signature hallmark.gmt --name HALLMARK_HYPOXIA --group-by cell_type
      insignia explain --server 127.0.0.1:50051 --genes CD14,LYZ,CD3E:-1 --format csv --table genes
    """
    shape, which = chosen_format(given["shape"], given["out"]), given["which"]
    if which and shape == "json":
        raise click.UsageError("--table is for --format table and csv; json has one object with all")
    request = SearchRequest.of(
        options.read_signature(given),
        k=given["k"],
        where=given["where"],
        group_by=options.field_names(given["group_by"]),
        hits=given["hits"],
        aggregate=given["aggregate"],
        min_cells=given["min_cells"],
        min_coverage=given["min_coverage"],
        strict=given["strict"],
    )
    with open_backend(given["atlas"], given["server"], given["timeout_s"]) as backend:
        explanation = backend.run_explain(request)
        write_text(_text(explanation, shape, which), given["out"])
        note_filter(backend, request.where, explanation.n_cells)
    if plot := given["plot"]:
        with problems_of("--plot", plot):
            explanation.plot(path=plot)


def _text(explanation: Explanation, shape: str, which: str | None) -> str:
    if shape == "json":
        return render.json_text(explanation.to_dict())
    if shape == "csv":
        table: Table = getattr(explanation, TABLES[which or "genes"])
        return render.csv_text(table)
    parts = {
        "groups": groups_text,
        "genes": genes_text,
        "ranking": ranking_text,
        "cells": cells_text,
        "cell-genes": cell_genes_text,
    }
    chosen = [which] if which else ["groups", "genes", "cells"]
    texts = [parts[name](explanation) for name in chosen if len(getattr(explanation, TABLES[name]))]
    return "\n".join([summary_text(explanation), *texts])


def summary_text(explanation: Explanation) -> str:
    """Lines above the tables: what was asked, which genes were not found, what a reader should know."""
    said = "".join(f"! {sentence}\n" for sentence in explanation.sentences)
    return (
        f"{explanation.signature}: what each gene adds to the score, {explanation.n_cells:,} cells\n"
        f"{genes_account(explanation.genes)}; {explanation.aggregate} score, engine {explanation.engine}, "
        f"{explanation.elapsed_ms:.1f} ms\n{inexact_text(explanation.genes)}{said}"
    )


def groups_text(explanation: Explanation) -> str:
    """Groups, highest mean first, and the genes that add most to each."""
    table = explanation.group_table.head(MOST_GROUPS)
    columns = [render.shown(table, "rank", "#")]
    columns += [render.shown(table, field) for field in explanation.group_by]
    columns += [render.shown(table, "n_cells", "cells"), render.shown(table, "mean")]
    columns += _parts(table, "mean")
    columns.append(render.shown(table, "n_effective_genes", "effective genes", "{:.1f}".format))
    columns.append(_strongest(explanation.gene_table, len(explanation.group_table), len(table)))
    return _with_rest("Groups by mean score", columns, len(explanation.group_table), "groups", "groups")


def genes_text(explanation: Explanation) -> str:
    """Genes of the first group: what they add, what sets it apart, and how the groups rank without them."""
    groups = explanation.group_table
    places = [i for i, rank in enumerate(groups["rank"].to_list()) if rank == 1] or [0]
    rows = list(explanation.gene_table.rows())
    n_genes = len(rows) // len(groups)
    mine = rows[places[0] * n_genes : (places[0] + 1) * n_genes]
    ranking = {row["gene"]: row for row in explanation.gene_summary_table.rows()}
    shown, so_far = [], 0.0
    for row in mine[:MOST_GENES]:
        so_far += abs(row["share"] or 0.0)
        without = ranking[row["gene"]]
        shown.append(
            (
                row["gene"],
                render.number(row["weight"]),
                render.number(row["contribution"]),
                _percent(row["share"]),
                render.percent(so_far),
                _number(row["above_rest"]),
                without["top_group"] or "-",
                _number(without["rank_correlation"]),
            )
        )
    headings = (
        "gene", "weight", "adds", "share %", "together %", "above the rest", "first group without it",
        "rank correlation",
    )  # fmt: skip
    columns = [
        Shown(heading, texts, heading not in ("gene", "first group without it"))
        for heading, texts in zip(headings, zip(*shown, strict=True), strict=True)
    ]
    if len(groups) == 1:
        columns = columns[:5]
    if all(row["weight"] == 1 for row in mine):
        del columns[1]
    name = _name(explanation, places[0])
    return _with_rest(
        f"Genes of {name}", columns, n_genes, "genes", "genes", ", and those of the other groups"
    )


def ranking_text(explanation: Explanation) -> str:
    """What each gene adds over all cells, and how the groups rank without it."""
    table = explanation.gene_summary_table.head(MOST_GROUPS)
    columns = [
        render.shown(table, "gene"),
        render.shown(table, "weight"),
        render.shown(table, "contribution", "adds"),
        render.shown(table, "share", "share %", render.percent),
        render.shown(table, "rank_correlation", "rank correlation"),
        render.shown(table, "top_group", "first group without it"),
        render.shown(table, "top_group_rank", "# of today's first"),
    ]
    n_rows = len(explanation.gene_summary_table)
    return _with_rest("All cells; the groups' ranking without each gene", columns, n_rows, "genes", "ranking")


def cells_text(explanation: Explanation) -> str:
    """Best cells, and the genes that add most to each."""
    table = explanation.cell_table.head(MOST_CELLS)
    columns = [render.shown(table, name) for name in ("study", "cell_id", "score")]
    columns += _parts(table, "score")
    columns += [render.shown(table, f) for f in explanation.group_by if f not in ("study", "cell_id")]
    columns.append(_strongest(explanation.cell_gene_table, len(explanation.cell_table), len(table)))
    return _with_rest("Best cells", columns, len(explanation.cell_table), "cells", "cells")


def cell_genes_text(explanation: Explanation) -> str:
    """What every gene adds to every one of the best cells."""
    table = explanation.cell_gene_table.head(MOST_GROUPS)
    columns = [render.shown(table, name) for name in table.columns if name != "share"]
    columns.append(render.shown(table, "share", "share %", render.percent))
    n_rows = len(explanation.cell_gene_table)
    return _with_rest("Genes of the best cells", columns, n_rows, "rows", "cell-genes")


def _parts(table: Table, name: str) -> list[Shown]:
    parts = (("up", f"{name}_up"), ("down", f"{name}_down"))
    return [render.shown(table, column, heading) for heading, column in parts if column in table.columns]


def _strongest(genes: Table, n_all: int, n_shown: int) -> Shown:
    """The strongest genes of each of the first ``n_shown`` of ``n_all`` runs of rows, with their shares."""
    n = len(genes) // n_all if n_all else 0
    rows = list(genes.head(n * n_shown).rows())
    runs = [rows[i * n : (i + 1) * n][:NAMED_GENES] for i in range(n_shown)]
    texts = [", ".join(f"{g['gene']} {_percent(g['share'])} %" for g in run if g["share"]) for run in runs]
    return Shown("strongest genes", [text or "-" for text in texts])


def _name(explanation: Explanation, place: int) -> str:
    values = [explanation.group_table[field].to_list()[place] for field in explanation.group_by]
    return " · ".join("missing" if v is None else str(v) for v in values) or "all cells"


def _percent(share: float | None) -> str:
    return "-" if share is None else render.percent(share)


def _number(value: float | None) -> str:
    return "-" if value is None else render.number(value)


def _with_rest(
    title: str, columns: Sequence[Shown], n_rows: int, what: str, table: str, more: str = ""
) -> str:
    n_shown = len(columns[0].texts)
    rest = f"{n_rows - n_shown:,} more {what}"
    note = f"({rest}{more}: --format csv --table {table})\n"
    return f"{title}\n{render.text_table(columns)}" + (note if n_rows > n_shown else "")
