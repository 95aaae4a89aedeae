"""`insignia search --compare --contrast ...`: tests with the sample as replicate, asked for and printed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from insignia_client.cli import render
from insignia_client.cli.render import Shown
from insignia_model import SearchResult

C = TypeVar("C", bound=Callable[..., Any])

#: What a table shows for people; --format csv and json have everything.
MOST_TESTS = 40
MOST_REASONS = 20
MEASURES = {"hit_fraction": "hit %", "mean": "mean"}


def options(command: C) -> C:
    """``--contrast``, ``--compare`` and ``--min-samples``."""
    for option in (
        click.option(
            "--min-samples",
            default=3,
            show_default=True,
            metavar="N",
            help="Samples that a test needs on each side.",
        ),
        click.option(
            "--compare", is_flag=True, help="Test each group against the rest, samples being the replicates."
        ),
        click.option(
            "--contrast",
            "contrasts",
            multiple=True,
            metavar="FIELD=VALUE:REFERENCE",
            help="Test samples with the one value against those with the other, such as "
            "disease=lupus:normal; several: each of them.",
        ),
    ):
        command = option(command)
    return command


def tests_text(result: SearchResult) -> str:
    """Contrasts, then groups in the order given; and why some could not be tested."""
    rows = [row | {"what": compared(row, result.group_by)} for row in result.test_table.rows()]
    rows.sort(key=lambda row: row["contrast"] is None)
    made = [row for row in rows if row["reason"] is None]
    parts = []
    if made:
        columns = [_column(made[:MOST_TESTS], *column) for column in COLUMNS]
        fits = render.fitting(columns, ALWAYS, render.width_of_output())
        parts.append(render.text_table(fits))
        parts.append("Replicates are samples; 95 % intervals; FDR: Benjamini-Hochberg over these rows")
        parts.append("" if len(fits) == len(columns) else "; more columns: --format csv --table tests")
        parts.append(".\n")
    if len(made) > MOST_TESTS:
        parts.append(f"({len(made) - MOST_TESTS:,} more tests: --format csv --table tests)\n")
    reasons: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        if row["reason"] is not None:
            reasons.setdefault((row["what"], row["reason"]), []).append(MEASURES[row["measure"]])
    told = [
        f"no test of {what}{'' if len(of) == len(MEASURES) else f' ({of[0]})'}: {reason}\n"
        for (what, reason), of in reasons.items()
    ]
    parts += told[:MOST_REASONS]
    if len(told) > MOST_REASONS:
        parts.append(f"(and of {len(told) - MOST_REASONS:,} more: --format csv --table tests)\n")
    return "".join(parts)


def compared(row: dict[str, Any], group_by: tuple[str, ...]) -> str:
    """What a row compares."""
    if row["contrast"]:
        return str(row["contrast"])
    values = ("(missing)" if row[field] is None else str(row[field]) for field in group_by)
    return render.short(", ".join(values))


def _measured(name: str) -> Callable[[dict[str, Any]], str]:
    def write(row: dict[str, Any]) -> str:
        value = row[name]
        if value is None:
            return "-"
        return render.percent(value) if row["measure"] == "hit_fraction" else render.number(value)

    return write


def _difference(prefix: str, middle: str) -> Callable[[dict[str, Any]], str]:
    def write(row: dict[str, Any]) -> str:
        if row[middle] is None:
            return "-"
        texts = [_measured(name)(row) for name in (middle, f"{prefix}_low", f"{prefix}_high")]
        return f"{texts[0]} [{texts[1]}, {texts[2]}]"

    return write


def _number(name: str) -> Callable[[dict[str, Any]], str]:
    return lambda row: "-" if row[name] is None else render.number(row[name])


#: Heading, text of a row, numeric.
COLUMNS: tuple[tuple[str, Callable[[dict[str, Any]], str], bool], ...] = (
    ("compared", lambda row: str(row["what"]), False),
    ("of", lambda row: MEASURES[row["measure"]], False),
    ("samples", lambda row: f"{row['n_samples']}:{row['n_reference']}", True),
    ("value", _measured("mean_value"), True),
    ("reference", _measured("mean_reference"), True),
    ("difference", _difference("effect", "effect"), True),
    ("p", _number("p"), True),
    ("FDR", _number("fdr"), True),
    ("g", _number("hedges_g"), True),
    ("design", lambda row: str(row["design"]), False),
    ("studies", lambda row: str(row["n_studies"]), True),
    ("over studies", _difference("random", "random_effect"), True),
    ("I2 %", lambda row: "-" if row["i2"] is None else render.percent(row["i2"]), True),
)
ALWAYS = 8


def _column(
    rows: list[dict[str, Any]], heading: str, write: Callable[[dict[str, Any]], str], numeric: bool
) -> Shown:
    return Shown(heading, [write(row) for row in rows], numeric)
