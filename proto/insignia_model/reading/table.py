"""Tables of genes: a column of genes, perhaps one of weights, perhaps one with the name of the set."""

from __future__ import annotations

import math
from collections.abc import Iterator

from insignia_model.reading.columns import GENE, LFC, PADJ, SET, WEIGHT, Columns, has_p_value, places, shown
from insignia_model.reading.expression import DeRule, de_sets
from insignia_model.reading.grid import Grid, number_of, read_grid
from insignia_model.reading.library import RawSet
from insignia_model.reading.source import Source

#: Names of columns with which no weight is overlooked.
_HINT = "say it with columns, such as gene=symbol,weight=score (weight= for none)"


def table_sets(
    source: Source,
    *,
    name: str | None,
    columns: Columns,
    header: bool | None,
    expression: bool | None,
    rule: DeRule,
    notes: list[str],
) -> Iterator[RawSet]:
    """Sets of a delimited text; ``expression``: it is differential expression (None: if it looks like it).

    A set without a name of its own is called ``name``, or else as the file.
    """
    if any(isinstance(at, str) and not at.isdecimal() for at in columns.values()):
        header = True  # who names columns says that they have names
    grid = read_grid(source, header)
    at = places(source, grid.header, grid.n_columns, columns)
    lone = name or source.stem
    if expression or (expression is None and {LFC, PADJ} <= at.keys() and WEIGHT not in columns):
        return de_sets(source, grid, at, lone, rule, notes)
    if GENE not in at:
        raise source.error(f"which column is the gene? There are {_there(grid)}; {_HINT}", 1)
    if WEIGHT not in at and WEIGHT not in columns:
        at |= _weight_by_elimination(source, grid, at)
    return _weighted_sets(source, grid, at, lone)


def _weight_by_elimination(source: Source, grid: Grid, at: dict[str, int]) -> dict[str, int]:
    """The column of fold changes, if no other number could be meant. Numbers nobody knows: a question."""
    if grid.header is None and grid.n_columns > 2:
        raise source.error(f"which of {_there(grid)} are gene and weight? {_HINT}, by number", 1)
    roles = {column: role for role, column in at.items()}
    numeric = [i for i in range(grid.n_columns) if roles.get(i) not in (GENE, SET) and grid.is_numeric(i)]
    if not numeric:
        return {}
    if numeric == [at.get(LFC)]:
        return {WEIGHT: at[LFC]}
    problem = f"which column is the weight? There are {_there(grid)}; {_HINT}"
    if LFC in at:
        what = "only unadjusted p values" if has_p_value(grid.header) else "no adjusted p"
        problem += f"; as differential expression it has {what}: name the column with padj="
    raise source.error(problem, 1)


def _there(grid: Grid) -> str:
    return f"columns 1 to {grid.n_columns}" if grid.header is None else shown(grid.header)


def _weighted_sets(source: Source, grid: Grid, at: dict[str, int], lone: str) -> Iterator[RawSet]:
    sets: dict[str, dict[str, float]] = {}
    begins: dict[str, int] = {}
    problems: dict[str, str] = {}
    for line, texts in grid.rows:
        name = lone if SET not in at else cell(texts, at[SET])
        gene, weight, problem = cell(texts, at[GENE]), 1.0, ""
        if not name:
            raise source.error(f"no name of a set in column {at[SET] + 1}", line)
        if not gene:
            problem = f"line {line:,}: no gene in column {at[GENE] + 1}"
        if WEIGHT in at:
            weight, text = _weight(texts, at[WEIGHT])
            if not math.isfinite(weight):
                problem = f"line {line:,}, column {at[WEIGHT] + 1}: {text!r} is no weight"
        genes = sets.setdefault(name, {})
        begins.setdefault(name, line)
        if not problem and genes.setdefault(gene, weight) != weight:
            problem = f"line {line:,}: gene {gene!r} stood before with the weight {genes[gene]:g}"
        if problem:
            problems.setdefault(name, problem)
    if not sets:
        raise source.error("has a header and no rows")
    for name, genes in sets.items():
        if name in problems:
            yield RawSet(name, {}, problem=problems[name])
        else:
            yield RawSet(name, genes, begins[name])


def _weight(texts: list[str], column: int) -> tuple[float, str]:
    text = cell(texts, column)
    number = number_of(text)
    return (math.nan if number is None else number), text


def cell(texts: list[str], column: int) -> str:
    """Text of a column; a short row lacks its last ones."""
    return texts[column] if column < len(texts) else ""
