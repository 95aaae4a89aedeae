"""Hit fraction per sample by group."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from insignia_model.errors import InvalidArgument
from insignia_model.plot.style import BOX, INK, REFERENCE, axes, counted, finished, group_name, lighten
from insignia_model.result import SearchResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

HALF_BOX = 0.33
LEAST_FOR_A_BOX = 3  # the quartiles of two samples say nothing
GOLDEN = 0.6180339887  # its multiples, modulo 1, spread points evenly: a jitter that is the same every time


@dataclass(frozen=True, slots=True)
class Group:
    """A group's name and the hit fractions (n_samples,) of its samples that are replicates."""

    name: str
    fractions: npt.NDArray[np.float64]

    @property
    def median(self) -> float:
        """Median hit fraction of the samples."""
        return float(np.median(self.fractions))


def sample_hit_fractions(
    result: SearchResult,
    *,
    ax: Axes | None = None,
    max_groups: int = 50,
    path: str | Path | None = None,
) -> Figure:
    """Hit fraction per sample by group: a point per sample, box and median, highest median on top.

    Samples with fewer cells than the search's ``min_cells`` are left out. ``max_groups``: only so many
    groups are drawn, those of the highest medians. ``ax``: draw into these axes. ``path``: write the
    figure (.png, .svg, .pdf). The dashed line is the share of hits among all cells.
    """
    if max_groups < 1:
        raise InvalidArgument("max_groups", f"{max_groups} is below 1")
    if result.n_hits is None:
        raise InvalidArgument("groups", f"engine {result.engine} counted no hits; search with groups=True")
    groups, n_without = replicated_groups(result)
    drawn = groups[:max_groups]
    figure, ax = axes(ax, 8, 1.5 + 0.24 * max(len(drawn), 2))  # inches: a line of text per group
    _draw(ax, drawn)
    _label(ax, result, drawn, _left_out(len(groups) - len(drawn), n_without, result.min_cells))
    return finished(figure, path)


def replicated_groups(result: SearchResult) -> tuple[list[Group], int]:
    """Groups with a sample of ``min_cells`` cells or more, highest median first, and how many have none."""
    table = result.sample_table
    samples: dict[tuple[Any, ...], list[float]] = {}
    for row in table.rows():
        fractions = samples.setdefault(tuple(row[field] for field in result.group_by), [])
        if row["n_cells"] >= result.min_cells:
            fractions.append(row["hit_fraction"])
    groups = [Group(group_name(values), np.array(f)) for values, f in samples.items() if f]
    if not groups:
        raise InvalidArgument(
            "min_cells", f"no sample has {result.min_cells} cells or more, so that there is nothing to draw"
        )
    groups.sort(key=lambda group: (-group.median, -float(group.fractions.mean()), group.name))
    return groups, len(samples) - len(groups)


def _draw(ax: Axes, groups: list[Group]) -> None:
    _draw_boxes(ax, [(n, group) for n, group in enumerate(groups) if len(group.fractions) >= LEAST_FOR_A_BOX])
    places = np.arange(len(groups))
    medians = [100 * group.median for group in groups]
    ax.vlines(medians, places - HALF_BOX, places + HALF_BOX, color=INK, linewidth=1.6, zorder=3)
    for place, group in zip(places, groups, strict=True):
        spread = (np.arange(1, len(group.fractions) + 1) * GOLDEN) % 1 - 0.5
        ax.scatter(
            100 * np.sort(group.fractions),
            place + 0.44 * spread,
            s=11,
            color=INK,
            alpha=0.7,
            linewidths=0,
            zorder=4,
        )
    # a $ in a name is no formula
    ax.set_yticks(places, [f"{g.name}  (n = {len(g.fractions)})" for g in groups], parse_math=False)
    ax.set_ylim(len(groups) - 0.4, -0.6)


def _draw_boxes(ax: Axes, boxed: list[tuple[int, Group]]) -> None:
    if not boxed:
        return
    ax.boxplot(
        [100 * group.fractions for _, group in boxed],
        positions=[place for place, _ in boxed],
        orientation="horizontal",
        widths=2 * HALF_BOX,
        manage_ticks=False,
        showfliers=False,  # the points show them
        patch_artist=True,
        boxprops={"facecolor": BOX, "edgecolor": INK, "linewidth": 0.8},
        whiskerprops={"color": INK, "linewidth": 0.8},
        capprops={"color": INK, "linewidth": 0.8},
        medianprops={"linewidth": 0},  # drawn below, for the groups without a box too
    )


def _label(ax: Axes, result: SearchResult, groups: list[Group], left_out: str) -> None:
    if result.n_cells and result.n_hits is not None:
        share = 100 * result.n_hits / result.n_cells
        ax.axvline(share, color=REFERENCE, linewidth=0.9, linestyle="--", zorder=1)
        ax.annotate(
            f"all cells: {share:.1f} %",
            (share, 1),
            xycoords=("data", "axes fraction"),
            xytext=(3, 2),
            textcoords="offset points",
            color=REFERENCE,
            fontsize="small",
        )
    largest = max(float(group.fractions.max()) for group in groups)
    ax.set_xlim(-0.02 * max(100 * largest, 1), max(104 * largest, 1))
    ax.set_xlabel(
        f"hits in each sample, % of its cells (hits: {result.hits})" + (f"\n{left_out}" if left_out else "")
    )
    ax.set_title(result.signature, loc="left", fontweight="bold", fontsize=11, pad=18, parse_math=False)
    lighten(ax)


def _left_out(n_lower: int, n_without: int, min_cells: int) -> str:
    notes = []
    if n_lower:
        notes.append(f"{counted(n_lower, 'group')} of lower median")
    if n_without:
        notes.append(f"{counted(n_without, 'group')} without a sample of {min_cells} cells")
    return "not shown: " + ", ".join(notes) if notes else ""
