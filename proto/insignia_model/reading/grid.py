"""Delimited text: rows with their line numbers, and the header if there is one."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

from insignia_model.reading.columns import GENE, ROLES, normal
from insignia_model.reading.source import Source

_DELIMITERS = {".tsv": "\t", ".tab": "\t"}


@dataclass(frozen=True, slots=True)
class Grid:
    """``rows``: (line number from 1, texts); ``header``: names of the columns, None where there are none."""

    header: tuple[str, ...] | None
    rows: list[tuple[int, list[str]]]

    @property
    def n_columns(self) -> int:
        """Columns of the header, or else of the first row."""
        if self.header is not None:
            return len(self.header)
        return len(self.rows[0][1]) if self.rows else 0

    def is_numeric(self, column: int) -> bool:
        """Whether the column has numbers and nothing else (but what stands for a missing one)."""
        texts = [texts[column] for _, texts in self.rows[:1000] if column < len(texts)]
        numbers = [number_of(text) for text in texts]
        return any(n is not None and n == n for n in numbers) and None not in numbers


def read_grid(source: Source, header: bool | None) -> Grid:
    """Rows of a delimited text; empty lines and comments (#) are no rows. ``header`` None: look for one."""
    rows = _rows(source)
    if not rows:
        raise source.error("is empty")
    if len(rows) == 1 and header is None and not _has_header(rows) and not any(map(_is_number, rows[0][1])):
        line, genes = rows[0]  # all genes in one line
        return Grid(None, [(line, [gene]) for gene in genes if gene])
    if header is False or (header is None and not _has_header(rows)):
        return Grid(None, rows)
    names = rows[0][1]
    if len(rows) > 1 and len(names) == len(rows[1][1]) - 1:
        names = ["", *names]  # R's write.table gives the row names no heading
    return Grid(tuple(names), rows[1:])


def _rows(source: Source) -> list[tuple[int, list[str]]]:
    delimiter = _delimiter(source)
    if delimiter is None:
        lines = enumerate(source.text.splitlines(), start=1)
        rows = [(number, line.split()) for number, line in lines]
    else:
        # one call a line costs little, and its line_num is right where a quoted text has line breaks
        reader = csv.reader(io.StringIO(source.text, newline=""), delimiter=delimiter, skipinitialspace=True)
        rows = []
        try:
            for texts in reader:
                rows.append((reader.line_num, [text.strip() for text in texts]))
        except csv.Error as error:
            raise source.error(str(error), reader.line_num) from error
    return [(n, texts) for n, texts in rows if any(texts) and not texts[0].startswith("#")]


def _delimiter(source: Source) -> str | None:
    """Tab, comma or semicolon, whichever the first line has; None: spaces."""
    if source.suffix in _DELIMITERS:
        return _DELIMITERS[source.suffix]
    lines = (line for line in source.text.splitlines() if line.strip() and not line.startswith("#"))
    first = next(lines, "")
    order = ",;\t" if source.suffix == ".csv" else "\t,;"
    found = next((delimiter for delimiter in order if delimiter in first), None)
    return "," if found is None and source.suffix == ".csv" else found


def _has_header(rows: Sequence[tuple[int, list[str]]]) -> bool:
    """Known names in the first row, or a text above a column of numbers.

    One known name is not enough unless it means genes: SET is a gene.
    """
    first = [normal(text) for text in rows[0][1]]
    known = {role for role, names in ROLES.items() if any(text and text in names for text in first)}
    if GENE in known or len(known) > 1:
        return True
    if len(rows) == 1:
        return False
    shift = 1 if len(first) == len(rows[1][1]) - 1 else 0
    below = rows[1][1][shift:]
    return any(_is_number(b) and not _is_number(a) for a, b in zip(rows[0][1], below, strict=False))


def number_of(text: str) -> float | None:
    """Number of a text; NaN where it stands for a missing one, None where it is none."""
    if text.lower() in ("", "na", "nan", "null", "none"):
        return math.nan
    try:
        return float(text)
    except ValueError:
        return None


def _is_number(text: str) -> bool:
    number = number_of(text)
    return number is not None and number == number
