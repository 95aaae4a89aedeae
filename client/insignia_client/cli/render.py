"""Tables for people (plain text that fits the terminal), for spreadsheets (CSV) and for programs (JSON)."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from insignia_model import Table

#: Width where there is no terminal, so that a file or a pipe gets the same text everywhere.
PLAIN_WIDTH = 120
TEXT_WIDTH = 36
GAP = "  "


@dataclass(frozen=True, slots=True)
class Shown:
    """A column of a printed table: its heading, its cells as text, and whether they are numbers."""

    heading: str
    texts: Sequence[str]
    numeric: bool = False

    @property
    def width(self) -> int:
        """Characters of the widest text."""
        return max(map(len, (self.heading, *self.texts)))


def width_of_output() -> int:
    """Characters that a line may take."""
    return shutil.get_terminal_size((PLAIN_WIDTH, 24)).columns if sys.stdout.isatty() else PLAIN_WIDTH


def text_table(columns: Sequence[Shown]) -> str:
    """Heading and rows, numbers to the right; the heading is bold on a terminal."""
    lines = []
    for row in zip(*([c.heading, *c.texts] for c in columns), strict=True):
        aligned = [
            text.rjust(c.width) if c.numeric else text.ljust(c.width)
            for text, c in zip(row, columns, strict=True)
        ]
        lines.append(GAP.join(aligned).rstrip())
    if lines and sys.stdout.isatty() and "NO_COLOR" not in os.environ:
        lines[0] = f"\x1b[1m{lines[0]}\x1b[0m"
    return "\n".join(lines) + "\n"


def fitting(columns: Sequence[Shown], n_always: int, width: int) -> list[Shown]:
    """First ``n_always`` columns, and of the others, in order, those that still fit into ``width``."""
    fits, used = [], -len(GAP)
    for number, column in enumerate(columns):
        if number < n_always or used + len(GAP) + column.width <= width:
            fits.append(column)
            used += len(GAP) + column.width
    return fits


def whole_table(table: Table, headings: dict[str, str]) -> str:
    """Text of all columns; the last one is cut where the line ends."""
    columns = [
        shown(table, name, headings.get(name), size if name == "size_bytes" else None)
        for name in table.columns
    ]
    last = list(table.columns)[-1]
    taken = sum(len(GAP) + column.width for column in columns[:-1])
    room = max(TEXT_WIDTH, width_of_output() - taken)
    if table[last].kind == "category":
        columns[-1] = shown(table, last, headings.get(last), lambda text: short(text, room))
    return text_table(columns)


def shown(
    table: Table, name: str, heading: str | None = None, write: Callable[[Any], str] | None = None
) -> Shown:
    """Column ``name`` of ``table``; ``write`` makes the text of a value that is not missing."""
    column = table[name]
    write = write or WRITERS[column.kind]
    texts = ["-" if value is None else write(value) for value in column.to_list()]
    return Shown(heading or name, texts, column.kind in ("number", "integer"))


def short(value: str, width: int = TEXT_WIDTH) -> str:
    """Text of at most ``width`` characters, on one line."""
    text = " ".join(value.split())
    return text if len(text) <= width else text[: width - 1] + "…"


def number(value: float) -> str:
    """Number with four significant digits."""
    if value and not math.isinf(value) and not 1e-3 <= abs(value) < 1e6:
        return f"{value:.3e}"
    digits = 3 - math.floor(math.log10(abs(value))) if value and not math.isinf(value) else 0
    return f"{value:,.{max(0, min(digits, 4))}f}"


def percent(value: float) -> str:
    """Share (0-1) as per cent."""
    return f"{100 * value:.1f}"


def size(n_bytes: int) -> str:
    """Bytes in decimal units."""
    if n_bytes < 1000:
        return f"{n_bytes} B"
    power = min(4, int(math.log10(n_bytes)) // 3)
    return f"{n_bytes / 1000**power:.1f} {'kMGT'[power - 1]}B"


def truth(value: bool) -> str:
    """Truth value as JSON has it."""
    return "true" if value else "false"


WRITERS: dict[str, Callable[[Any], str]] = {
    "category": short,
    "number": number,
    "integer": "{:,}".format,
    "bool": truth,
}


def csv_text(table: Table) -> str:
    """CSV with a heading; all digits, nothing where a value is missing."""
    columns = []
    for column in table.columns.values():
        values = column.to_list()
        if column.kind == "bool":
            values = [None if v is None else truth(v) for v in values]
        columns.append(values)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table.columns)
    writer.writerows(zip(*columns, strict=True))
    return text.getvalue()


def json_text(value: Any) -> str:
    """JSON, one space deep, keys as given; infinite numbers, which JSON lacks, as text."""
    try:
        text = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False)
    except ValueError:  # rare, so that other answers are not copied
        text = json.dumps(_finite(value), indent=1, ensure_ascii=False)
    return f"{text}\n"


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    return [_finite(each) for each in value] if isinstance(value, list | tuple) else value
