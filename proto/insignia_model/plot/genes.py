"""Which genes carry the mean score of every group."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from insignia_model.errors import InvalidArgument
from insignia_model.plot.style import (
    CATEGORIES,
    INK,
    OTHER,
    axes,
    counted,
    finished,
    group_name,
    lighten,
    titled,
)
from insignia_model.table import Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Columns of the table that are not fields of the groups.
COLUMNS = ("gene", "weight", "contribution", "share", "above_rest")
Floats = npt.NDArray[np.float64]


def gene_contributions(
    table: Table,
    *,
    title: str = "",
    max_genes: int = len(CATEGORIES),
    max_groups: int = 50,
    ax: Axes | None = None,
    path: str | Path | None = None,
) -> Figure:
    """Mean score of every group as a bar made of its genes, highest on top.

    ``table``: one row per (group, gene): the fields of the groups, ``gene``, ``weight``, ``contribution``
    (part of the group's mean score), ``share``. Named are the ``max_genes`` (at most 8, as many as colours
    can be told apart) that contribute most to any group; the others are one grey part. Negative parts
    point to the left; the tick is their sum, the mean score.
    """
    if not 1 <= max_genes <= len(CATEGORIES):
        raise InvalidArgument("max_genes", f"{max_genes} is not from 1 to {len(CATEGORIES)}")
    if max_groups < 1:
        raise InvalidArgument("max_groups", f"{max_groups} is below 1")
    groups, genes, matrix = contribution_matrix(table)
    totals = matrix.sum(axis=1)
    order = np.argsort(-totals, kind="stable")
    shown = order[:max_groups]
    strongest = np.argsort(-np.abs(matrix[shown]).max(axis=0), kind="stable")
    named = [g for g in strongest[:max_genes].tolist() if np.abs(matrix[shown, g]).max() > 0]
    figure, ax = axes(ax, 8, 1.9 + 0.24 * max(len(shown), 2))
    _draw(ax, matrix[shown], [(genes[g], g) for g in named])
    ax.set_yticks(range(len(shown)), [groups[g] for g in shown], parse_math=False)
    ax.set_ylim(len(shown) - 0.4, -0.6)
    left_out = len(order) - len(shown)
    note = f"\nnot shown: {counted(left_out, 'group')} of lower mean" if left_out else ""
    ax.set_xlabel(f"mean score, by gene{note}")
    lighten(ax)
    titled(ax, title or "Genes behind the mean score", pad=8)
    return finished(figure, path)


def contribution_matrix(table: Table) -> tuple[list[str], list[str], Floats]:
    """Names of groups and genes, and contributions float64 (n_groups, n_genes); not a number counts as 0."""
    absent = [name for name in ("gene", "contribution") if name not in table.columns]
    if absent or not len(table):
        problem = f"it has no column {' and '.join(absent)}" if absent else "it has no rows"
        raise InvalidArgument("table", f"{problem}, so that there is nothing to draw")
    fields = [name for name in table.columns if name not in COLUMNS]
    groups: dict[tuple[object, ...], int] = {}
    genes: dict[str, int] = {}
    cells = []
    for row in table.rows():
        group = groups.setdefault(tuple(row[field] for field in fields), len(groups))
        cells.append((group, genes.setdefault(row["gene"], len(genes)), row["contribution"] or 0.0))
    matrix = np.zeros((len(groups), len(genes)))
    for group, gene, value in cells:
        matrix[group, gene] += value
    return [group_name(values) for values in groups], list(genes), matrix


def _draw(ax: Axes, matrix: Floats, named: list[tuple[str, int]]) -> None:
    places = np.arange(len(matrix))
    right, left = np.zeros(len(matrix)), np.zeros(len(matrix))
    others = np.ones(matrix.shape[1], np.bool_)
    others[[g for _, g in named]] = False
    parts = [(name, matrix[:, g], CATEGORIES[i]) for i, (name, g) in enumerate(named)]
    if others.any():
        rest = matrix[:, others]
        # up and down of the others apart, as they are for the genes with a name
        parts.append((f"{counted(int(others.sum()), 'other gene')}", np.maximum(rest, 0).sum(axis=1), OTHER))
        if (rest < 0).any():
            parts.append(("", np.minimum(rest, 0).sum(axis=1), OTHER))
    for name, values, colour in parts:
        start = np.where(values >= 0, right, left)
        ax.barh(
            places, values, 0.74, left=start, color=colour, edgecolor="white", linewidth=0.4,
            label=name or "_nolegend_",
        )  # fmt: skip
        right += np.maximum(values, 0)
        left += np.minimum(values, 0)
    if (left < 0).any():
        ax.axvline(0, color=INK, linewidth=0.8)
        ax.vlines(matrix.sum(axis=1), places - 0.37, places + 0.37, color="black", linewidth=1.4, zorder=4)
    legend = ax.legend(
        loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, fontsize="small", handlelength=1.0
    )
    for text in legend.get_texts():
        text.set_parse_math(False)
