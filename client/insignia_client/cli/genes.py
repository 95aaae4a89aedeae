"""`insignia genes`: what gene names mean to an atlas, and the same in a few lines for other commands."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import click
import numpy as np

from insignia_client.cli import options, render
from insignia_client.cli.backend import open_backend
from insignia_client.cli.output import chosen_format, write_text
from insignia_model import Column, GeneReport, Table
from insignia_model.genes import WAYS
from insignia_model.listing import some


@click.command(short_help="What gene names mean to an atlas.")
@options.source
@click.argument("names", nargs=-1, required=True, metavar="GENE...")
@options.strict
@options.output
def genes(names: tuple[str, ...], **given: Any) -> None:
    """Show which symbol of the atlas each gene name means, and how.

    A name may be a symbol in any case, a previous symbol, an alias or an Ensembl id. One that may mean
    several genes is shown with them and is not used; one that no gene has, with symbols of similar spelling.

    \b
      insignia genes --atlas my.atlas RIPOR2 FAM65B tp53 ENSG00000141510
    """
    with open_backend(given["atlas"], given["server"], given["timeout_s"]) as backend:
        report = backend.resolve_genes(list(dict.fromkeys(names)), strict=given["strict"])
    match chosen_format(given["shape"], given["out"]):
        case "json":
            found = {"resolved": report.resolved, "missing": list(report.missing)}
            text = render.json_text(found | report.account())
        case "csv":
            text = render.csv_text(report_table(report, names))
        case _:
            text = report_text(report, names)
    write_text(text, given["out"])


def report_table(report: GeneReport, names: Iterable[str]) -> Table:
    """One row a name, in the order asked; ``candidates``: what it may mean, or else what it looks like."""
    table = report.table()
    place = {name: row for row, name in enumerate(table["name"].to_list())}
    rows = np.array([place[name] for name in dict.fromkeys(names)], np.int64)
    return Table({name: column.take(rows) for name, column in table.columns.items()})


def report_text(report: GeneReport, names: Iterable[str]) -> str:
    """The table, then what concerns the names together."""
    table = report_table(report, names)
    why = report.problems()
    shown = Table(
        {
            "name": table["name"],
            "symbol": table["symbol"],
            "how": Column.text([WAYS.get(how, how) for how in table["how"].to_list()]),
            "": Column.text([_note(report, name, why) for name in table["name"].to_list()]),
        }
    )
    # a note is there or not: no dash stands for none
    lines = [line.removesuffix("-").rstrip() + "\n" for line in render.whole_table(shown, {}).splitlines()]
    for symbol, asked in report.duplicates.items():
        lines.append(f"{', '.join(asked)} mean one gene, {symbol}, which counts once\n")
    measured = report.n_genes_measured
    if measured and min(measured.values()) < report.n_genes:
        counts = [f"{study} {n:,}" for study, n in measured.items()]
        lines.append(f"measured, of {report.n_genes:,} genes: {some(counts)}\n")
    return "".join(lines)


def genes_text(report: GeneReport) -> str:
    """How many genes are used, and which names are not."""
    text = f"{report.n_genes:,} gene{'' if report.n_genes == 1 else 's'} used"
    if report.missing:
        names = [
            name + (f" ({' or '.join(alike)}?)" if (alike := report.suggestions.get(name)) else "")
            for name in report.missing
        ]
        text += f", {len(names):,} not in the atlas: {some(names)}"
    if report.ambiguous:
        names = [f"{name} ({' or '.join(found)}?)" for name, found in report.ambiguous.items()]
        text += f", {len(names):,} ambiguous and not used: {some(names)}"
    return text


def inexact_text(report: GeneReport) -> str:
    """A line with the names that are used as another symbol; nothing if there are none."""
    why = report.problems()
    names = [f"{name} {why[name]}" for name in report.inexact]
    return f"{some(names)}\n" if names else ""


def _note(report: GeneReport, name: str, why: dict[str, str]) -> str | None:
    return None if name in report.resolved else why[name]
