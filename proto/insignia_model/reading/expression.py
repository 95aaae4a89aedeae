"""Differential expression: from a table of tests to signatures."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from insignia_model.errors import InvalidArgument
from insignia_model.reading.columns import GENE, LFC, PADJ, SET, shown
from insignia_model.reading.grid import Grid, number_of
from insignia_model.reading.library import RawSet
from insignia_model.reading.source import Source

DE_WEIGHTS = ("sign", "lfc")
DIRECTIONS = ("both", "up", "down")
_ROLE_NAMES = {GENE: "gene", LFC: "log fold change", PADJ: "adjusted p"}


@dataclass(frozen=True, slots=True)
class DeRule:
    r"""Which genes of a differential-expression table make the signature, and what they weigh.

    ``max_padj``: adjusted p of at most this (None: any, and no such column is needed). ``min_lfc``:
    \|log fold change\| of at least this. ``top``: of these, so many of the smallest adjusted p (ties: larger
    \|log fold change\|). ``direction``: genes that are up, down, or both.

    ``weight``: ``sign``, +1 for up and -1 for down, so that each gene counts the same: the largest fold
    changes are often those of the fewest reads. ``lfc``: the log fold change itself. Genes that are down
    weigh less than nothing beside genes that are up; alone (``direction="down"``) they are a program of their
    own and weigh +1 or \|log fold change\|.
    """

    max_padj: float | None = 0.05
    min_lfc: float = 0.0
    top: int | None = None
    weight: str = "sign"
    direction: str = "both"

    def __post_init__(self) -> None:
        if self.max_padj is not None and not 0 <= self.max_padj <= 1:
            raise InvalidArgument("max_padj", f"{self.max_padj} is not from 0 to 1")
        if not (math.isfinite(self.min_lfc) and self.min_lfc >= 0):
            raise InvalidArgument("min_lfc", f"{self.min_lfc} is not a number from 0 up")
        if self.top is not None and self.top < 1:
            raise InvalidArgument("top", f"{self.top} is below 1")
        if self.weight not in DE_WEIGHTS:
            raise InvalidArgument("weight", f"{self.weight!r} is not one of {', '.join(DE_WEIGHTS)}")
        if self.direction not in DIRECTIONS:
            raise InvalidArgument("direction", f"{self.direction!r} is not one of {', '.join(DIRECTIONS)}")

    def passes(self, lfc: float, padj: float) -> bool:
        """Whether a gene is taken; a missing (NaN) fold change or adjusted p does not pass."""
        wanted = {"both": lfc != 0, "up": lfc > 0, "down": lfc < 0}[self.direction]
        significant = self.max_padj is None or padj <= self.max_padj
        return wanted and abs(lfc) >= self.min_lfc and significant

    def weight_of(self, lfc: float) -> float:
        """Weight of a gene that passes."""
        value = math.copysign(1.0, lfc) if self.weight == "sign" else lfc
        return abs(value) if self.direction == "down" else value

    def __str__(self) -> str:
        parts = [] if self.max_padj is None else [f"adjusted p ≤ {self.max_padj:g}"]
        parts += [f"|log fold change| ≥ {self.min_lfc:g}"] if self.min_lfc else []
        parts += [] if self.direction == "both" else [f"{self.direction} only"]
        return ", ".join(parts) or "a log fold change that is not 0"


class _Test(NamedTuple):
    """A gene's row; `rank` is smaller for stronger evidence."""

    gene: str
    lfc: float
    padj: float

    @property
    def rank(self) -> tuple[float, float]:
        return (math.inf if math.isnan(self.padj) else self.padj, -abs(self.lfc))


def de_sets(
    source: Source, grid: Grid, at: dict[str, int], lone: str, rule: DeRule, notes: list[str]
) -> Iterator[RawSet]:
    """Signatures of a differential-expression table, one per value of its column of sets (clusters).

    A gene in several rows counts by the one of the strongest evidence. Sets of which no gene passes are left
    out with a note; if none is left, that is an error.
    """
    needed = (GENE, LFC) if rule.max_padj is None else (GENE, LFC, PADJ)
    absent = [_ROLE_NAMES[role] for role in needed if role not in at]
    if absent:
        there = f"columns 1 to {grid.n_columns}" if grid.header is None else shown(grid.header)
        raise source.error(
            f"no column of {' and '.join(absent)} for differential expression among {there}; "
            "say it with columns, such as gene=symbol,lfc=logFC,padj=FDR",
            1,
        )
    tests = _tests(source, grid, at, lone, notes)
    sets = {name: _chosen(genes, rule) for name, genes in tests.items()}
    n_tests = sum(map(len, tests.values()))
    empty = [name for name, genes in sets.items() if not genes]
    if len(empty) == len(sets):
        raise source.error(f"none of {n_tests:,} genes passes {rule}")
    if empty:
        notes.append(
            f"no gene passes {rule} in {len(empty):,} of {len(sets):,} sets: {', '.join(empty[:10])}"
        )
    return (RawSet(name, {t.gene: rule.weight_of(t.lfc) for t in g}) for name, g in sets.items() if g)


def _chosen(genes: dict[str, _Test], rule: DeRule) -> list[_Test]:
    passed = sorted((t for t in genes.values() if rule.passes(t.lfc, t.padj)), key=lambda test: test.rank)
    return passed if rule.top is None else passed[: rule.top]


def _tests(
    source: Source, grid: Grid, at: dict[str, int], lone: str, notes: list[str]
) -> dict[str, dict[str, _Test]]:
    """Set → gene → its row of the strongest evidence."""
    sets: dict[str, dict[str, _Test]] = {}
    n_unnamed, again = 0, set()
    for line, texts in grid.rows:
        gene = _text(texts, at[GENE])
        name = lone if SET not in at else _text(texts, at[SET])
        if not name:
            raise source.error(f"no name of a set in column {at[SET] + 1}", line)
        if gene in ("", "NA"):
            n_unnamed += 1
            continue
        lfc = _number(source, line, texts, at[LFC])
        padj = _number(source, line, texts, at[PADJ]) if PADJ in at else math.nan
        if not math.isnan(padj) and not 0 <= padj <= 1:
            raise source.error(f"column {at[PADJ] + 1}: {padj:g} is no adjusted p", line)
        test, genes = _Test(gene, lfc, padj), sets.setdefault(name, {})
        if gene in genes:
            again.add(gene)
        if gene not in genes or test.rank < genes[gene].rank:
            genes[gene] = test
    if n_unnamed:
        notes.append(f"{n_unnamed:,} rows without a gene name are left out")
    if again:
        some = ", ".join(sorted(again)[:5])
        notes.append(f"{len(again):,} genes have several rows ({some}); the smallest adjusted p counts")
    if not sets:
        raise source.error("has no row with a gene")
    return sets


def _number(source: Source, line: int, texts: list[str], column: int) -> float:
    text = _text(texts, column)
    number = number_of(text)
    if number is None or math.isinf(number):
        raise source.error(f"column {column + 1}: {text!r} is no finite number", line)
    return number


def _text(texts: list[str], column: int) -> str:
    return texts[column] if column < len(texts) else ""
