"""Heat map of a screen: signatures by groups."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from insignia_model.errors import InvalidArgument
from insignia_model.plot.order import alike_together
from insignia_model.plot.style import axes, counted, finished, group_name, lacks_value, short, titled
from insignia_model.table import Table

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Floats = npt.NDArray[np.float64]
#: Characters of a name that are shown.
LONGEST_ROW, LONGEST_COLUMN = 60, 40
#: Value: what the colour says.
VALUES = {
    "mean": "mean score, in standard deviations over the groups of the signature",
    "hit_fraction": "hits, % of the cells",
    "null_z": "z against random signatures",
}


def screen_heatmap(
    screen: Table | pd.DataFrame,
    value: str = "mean",
    *,
    group_by: str | list[str] | tuple[str, ...] | None = None,
    max_signatures: int = 50,
    max_groups: int = 60,
    title: str = "",
    ax: Axes | None = None,
    path: str | Path | None = None,
) -> Figure:
    """Signatures (rows) by groups (columns), like beside like; the strongest ones if there are too many.

    ``screen``: one row per (signature, group): ``signature``, the fields of the groups, then figures.
    ``value``: ``mean`` (standardised over the groups of each signature, as levels differ), ``hit_fraction``,
    ``null_z``, or another column of numbers, drawn as it is. ``group_by``: the fields of the groups; default:
    the columns between ``signature`` and ``n_cells``. Strongest: the largest distance from 0 in any group
    (mean: the largest range over the groups). Grey: no value.
    """
    if max_signatures < 1 or max_groups < 1:
        raise InvalidArgument("max_signatures, max_groups", "below 1")
    columns = _columns(screen)
    signatures, groups, matrix = _matrix(columns, _fields(columns, group_by), value)
    n_signatures, n_groups = matrix.shape
    rows = _strongest(matrix, value, max_signatures)
    drawn, shown = matrix[rows], value
    if value == "mean" and n_groups > 1:
        drawn = _standardised(drawn)
    elif value == "mean":  # one group, which has none to be compared with: the means themselves
        shown = "mean score"
    kept = np.sort(np.argsort(-_largest(drawn, 0), kind="stable")[:max_groups])
    drawn = drawn[:, kept]
    if value == "hit_fraction":
        drawn = 100 * drawn
    down, across = alike_together(drawn), alike_together(drawn.T)
    drawn = drawn[down][:, across]
    row_names = [signatures[rows[i]] for i in down]
    column_names = [groups[kept[i]] for i in across]
    figure, ax = axes(ax, *_size(row_names, column_names))
    _draw(ax, drawn, shown)
    _label(ax, row_names, column_names)
    notes = [(n_signatures - len(rows), "signature"), (n_groups - len(kept), "group")]
    left_out = ", ".join(f"{counted(n, f'weaker {what}')}" for n, what in notes if n)
    ax.set_xlabel(f"not shown: {left_out}" if left_out else "")
    titled(ax, title or f"{counted(len(rows), 'signature')} in {counted(len(kept), 'group')}", pad=8)
    return finished(figure, path)


def _size(rows: list[str], columns: list[str]) -> tuple[float, float]:
    """Width and height in inches: a line per row and column, and what their names take (8 points)."""
    beside = 0.075 * min(LONGEST_ROW, max(map(len, rows)))
    below = 0.075 * min(LONGEST_COLUMN, max(map(len, columns)))
    return 0.6 + beside + 0.22 * max(len(columns), 12), 1.5 + below + 0.2 * max(len(rows), 3)


def _columns(screen: Table | pd.DataFrame) -> dict[str, list[Any]]:
    if isinstance(screen, Table):
        return {name: column.to_list() for name, column in screen.columns.items()}
    return {str(name): screen[name].astype(object).tolist() for name in screen.columns}


def _fields(columns: dict[str, list[Any]], group_by: str | list[str] | tuple[str, ...] | None) -> list[str]:
    names = list(columns)
    if isinstance(group_by, str):
        return [group_by]
    if group_by is not None:
        return list(group_by)
    if "signature" not in names or "n_cells" not in names:
        raise InvalidArgument("screen", "needs the columns signature and n_cells, or say group_by")
    return names[names.index("signature") + 1 : names.index("n_cells")]


def _matrix(
    columns: dict[str, list[Any]], fields: list[str], value: str
) -> tuple[list[str], list[str], Floats]:
    absent = [name for name in ("signature", *fields, value) if name not in columns]
    if absent:
        raise InvalidArgument("screen", f"has no column {', '.join(absent)}; there are {', '.join(columns)}")
    signatures: dict[Any, int] = {}
    groups: dict[tuple[Any, ...], int] = {}
    cells = []
    keys = zip(*(columns[field] for field in fields), strict=True) if fields else None
    for name, number in zip(columns["signature"], columns[value], strict=True):
        key = next(keys) if keys is not None else ()
        if lacks_value(number) or not np.isfinite(float(number)):
            continue  # no such cells, or a signature that could not be scored
        group = groups.setdefault(key, len(groups))
        cells.append((signatures.setdefault(name, len(signatures)), group, float(number)))
    if not cells:
        raise InvalidArgument("screen", f"has no {value}, so that there is nothing to draw")
    matrix = np.full((len(signatures), len(groups)), np.nan)
    for row, column, number in cells:
        matrix[row, column] = number
    return [str(name) for name in signatures], [group_name(key) for key in groups], matrix


def _strongest(matrix: Floats, value: str, n: int) -> list[int]:
    strength = np.nanmax(matrix, 1) - np.nanmin(matrix, 1) if value == "mean" else _largest(matrix, 1)
    return [int(row) for row in np.sort(np.argsort(-strength, kind="stable")[:n])]


def _largest(matrix: Floats, axis: int) -> Floats:
    largest: Floats = np.max(np.abs(np.nan_to_num(matrix)), axis=axis)
    return largest


def _standardised(matrix: Floats) -> Floats:
    """Distance from the row's mean in standard deviations; a row without spread is 0."""
    centred = matrix - np.nanmean(matrix, axis=1, keepdims=True)
    spread = np.nanstd(matrix, axis=1, keepdims=True)
    standardised: Floats = centred / np.where(spread > 0, spread, 1)
    return standardised


def _draw(ax: Axes, drawn: Floats, value: str) -> None:
    from matplotlib import colormaps

    known = drawn[np.isfinite(drawn)]
    largest = max(float(np.abs(known).max()), 1e-12)
    # signed values: white is 0, and the few extreme ones do not take the colour from the others
    signed = value in ("mean", "null_z") or bool((known < 0).any())
    limit = max(float(np.quantile(np.abs(known), 0.98)), 1e-12) if signed else largest
    colours = colormaps["RdBu_r" if signed else "Blues"].with_extremes(bad="#bdbdbd")
    image = ax.imshow(
        np.ma.masked_invalid(drawn), cmap=colours, vmin=-limit if signed else 0, vmax=limit, aspect="auto",
        interpolation="nearest",
    )  # fmt: skip
    edge = "both" if signed and largest > limit else "neither"
    bar = ax.get_figure(root=True).colorbar(  # type: ignore[union-attr]
        image, ax=ax, location="bottom", aspect=30, shrink=0.6, pad=0.02, extend=edge
    )
    bar.set_label(VALUES.get(value, value), fontsize="small")
    bar.ax.tick_params(labelsize="small")
    bar.outline.set_visible(False)


def _label(ax: Axes, rows: list[str], columns: list[str]) -> None:
    ax.set_yticks(range(len(rows)), [short(name, LONGEST_ROW) for name in rows], fontsize=8, parse_math=False)
    names = [short(name, LONGEST_COLUMN) for name in columns]
    ax.set_xticks(range(len(columns)), names, rotation=90, fontsize=8, parse_math=False)
    ax.tick_params(length=0)
    ax.set_xticks(np.arange(len(columns) - 1) + 0.5, minor=True)
    ax.set_yticks(np.arange(len(rows) - 1) + 0.5, minor=True)
    ax.grid(which="minor", color="white", linewidth=0.6)
    ax.tick_params(which="minor", length=0)
    for spine in ax.spines.values():
        spine.set_visible(False)
