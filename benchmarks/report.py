"""Figures beside their targets, as text, Markdown and JSON."""

import datetime
import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from string import Template
from typing import Any

from timing import BUSY, Seconds, machine, p50, p99

ROOT = Path(__file__).resolve().parents[1]
DOCUMENT = ROOT / "docs" / "performance.md"
TEMPLATE = Path(__file__).with_name("performance.template.md")


@dataclass(frozen=True)
class Row:
    """One figure. `at_least` and `at_most` are its target; `number` None means not measured, `note` why."""

    what: str
    number: float | None
    unit: str = ""
    note: str = ""
    at_least: float | None = None
    at_most: float | None = None

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None if there is no target or no figure."""
        if self.number is None or (self.at_least is None and self.at_most is None):
            return None
        low = self.at_least if self.at_least is not None else float("-inf")
        high = self.at_most if self.at_most is not None else float("inf")
        return bool(low <= self.number <= high)

    @property
    def figure(self) -> str:
        """Number and unit as text."""
        return "not measured" if self.number is None else with_unit(self.number, self.unit)

    @property
    def target(self) -> str:
        """Return the target and whether it is met, as text."""
        signs = (("≥", self.at_least), ("≤", self.at_most))
        wanted = " and ".join(f"{sign} {with_unit(n, self.unit)}" for sign, n in signs if n is not None)
        return wanted + {None: "", True: ": met", False: ": NOT MET"}[self.met]

    def without_target(self) -> "Row":
        """Return the figure alone."""
        return replace(self, at_least=None, at_most=None)


@dataclass(frozen=True)
class Section:
    """Rows that were measured together."""

    title: str
    rows: tuple[Row, ...]
    load: float = 0.0


def with_unit(number: float, unit: str) -> str:
    """Return a number with three digits, or all of a whole or large one, and its unit; rates in k and M."""
    if unit == "/s" and number >= 1e4:
        return with_unit(number / 1e6, " M/s") if number >= 1e6 else with_unit(number / 1e3, " k/s")
    digits = f"{number:,.0f}" if abs(number) >= 100 or number == int(number) else f"{number:.3g}"
    return digits + (unit if unit[:1] in ("", "x", "%", "/", " ") else f" {unit}")


def milliseconds(what: str, seconds: Seconds, *, note: str = "", at_most_ms: float | None = None) -> Row:
    """Return a row with the median, and the 99th percentile as a note, of `seconds` (n,)."""
    tail = f"p99 {with_unit(1000 * p99(seconds), 'ms')}" + (f"; {note}" if note else "")
    return Row(what, 1000 * p50(seconds), "ms", tail, at_most=at_most_ms)


def ratio(what: str, slow: float, fast: float, *, note: str = "", at_least: float | None = None) -> Row:
    """Return a row that says how many times `fast` goes into `slow`."""
    return Row(what, slow / fast, "x", note, at_least=at_least)


def as_text(section: Section) -> str:
    """Return a section for a terminal."""
    rows = [(row.what, row.figure, row.target, row.note) for row in section.rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]
    busy = f"  [load {section.load:.2f} before]" if section.load > BUSY else ""
    return "\n".join([f"\n{section.title}{busy}", *lines])


def as_markdown(sections: Iterable[Section]) -> str:
    """Return one table of all sections."""
    lines = ["| what | figure | target | note |", "|---|---:|---|---|"]
    for section in sections:
        lines.append(f"| **{section.title}** | | | |")
        lines += [f"| {row.what} | {row.figure} | {row.target} | {row.note} |" for row in section.rows]
    return "\n".join(lines)


def as_json(sections: Iterable[Section]) -> dict[str, Any]:
    """Return everything, for programs."""
    rows = [
        {
            "section": s.title,
            "what": r.what,
            "number": None if r.number is None else float(r.number),  # numpy's, too
            "unit": r.unit,
            "note": r.note,
            "met": r.met,
        }
        for s in sections
        for r in s.rows
    ]
    return machine() | {"date": datetime.date.today().isoformat(), "rows": rows}


def write_json(sections: Iterable[Section], path: Path) -> None:
    """Write `as_json`."""
    path.write_text(json.dumps(as_json(sections), indent=1, ensure_ascii=False) + "\n")


def write_document(sections: Iterable[Section], sources: str, path: Path = DOCUMENT) -> None:
    """Write docs/performance.md: the prose of the template around the table."""
    values = machine() | {"date": datetime.date.today().isoformat(), "sources": sources}
    path.write_text(Template(TEMPLATE.read_text()).substitute(values, table=as_markdown(sections)))
