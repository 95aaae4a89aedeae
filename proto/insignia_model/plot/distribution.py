"""Distribution of the scores of all cells, and the cut-off."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from insignia_model.errors import InvalidArgument
from insignia_model.hits import HitRule
from insignia_model.plot.style import BOX, GREY, INK, REFERENCE, axes, counted, finished, group_name, lighten
from insignia_model.plot.style import titled as set_title
from insignia_model.result import Scores

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BINS = 120
Floats = npt.NDArray[np.float64]


def score_distribution(
    scores: Scores,
    *,
    cutoff: HitRule | str | float | None = None,
    by: str | Sequence[Any] | None = None,
    title: str = "",
    max_groups: int = 50,
    ax: Axes | None = None,
    path: str | Path | None = None,
) -> Figure:
    """Histogram of the scores of all cells; the part above the cut-off is that of the hits.

    ``cutoff``: a score, or a hit rule such as ``percentile:95``, applied to these scores. ``by``: "study",
    or one value per cell (n_cells,): a row per group, highest share of hits (without a cut-off: highest
    median) on top, each scaled to its own peak, which is cut if it is four times the next; only
    ``max_groups`` are drawn.
    """
    if max_groups < 1:
        raise InvalidArgument("max_groups", f"{max_groups} is below 1")
    values = np.asarray(scores.values, np.float64)
    if not len(values):
        raise InvalidArgument("scores", "no cell passes the filter, so that there is nothing to draw")
    limit, is_hit = _hits(values, cutoff)
    labels = None if by is None else _labels(scores, by)
    n_rows = 1 if labels is None else min(len(set(labels)), max_groups)
    figure, ax = axes(ax, 8, 3.6 if labels is None else 1.5 + 0.3 * max(n_rows, 2))
    edges = np.linspace(values.min(), max(values.max(), values.min() + 1e-9), BINS + 1)
    if labels is None:
        note = _draw_all(ax, values, is_hit, edges)
    else:
        note = _draw_rows(ax, values, is_hit, labels, edges, max_groups, limit is not None)
    _label(ax, values, is_hit, limit, cutoff, note)
    set_title(ax, title or "Scores of cells", pad=20 if limit is not None else 8)
    return finished(figure, path)


def _hits(values: Floats, cutoff: HitRule | str | float | None) -> tuple[float | None, npt.NDArray[np.bool_]]:
    """Cut-off as a score, and which cells are hits, as the engine has it (a hit lies strictly above)."""
    if cutoff is None:
        return None, np.zeros(len(values), np.bool_)
    rule = HitRule.parse(cutoff) if isinstance(cutoff, str) else cutoff
    if not isinstance(rule, HitRule):
        rule = HitRule.above(float(rule))
    if rule.kind == "top":
        best = np.argsort(-values, kind="stable")[: int(rule.value)]
        is_hit = np.zeros(len(values), np.bool_)
        is_hit[best] = True
        return float(values[best[-1]]), is_hit
    if rule.kind == "value":
        limit = rule.value
    elif rule.kind == "zscore":
        limit = float(values.mean() + rule.value * values.std())
    else:
        limit = float(np.quantile(values, rule.value / (100 if rule.kind == "percentile" else 1)))
    return limit, values > limit


def _labels(scores: Scores, by: str | Sequence[Any]) -> list[str]:
    if isinstance(by, str):
        if by != "study":
            raise InvalidArgument("by", f"scores know no {by!r}; pass 'study' or one value per cell")
        return [chunk.study for chunk in scores for _ in range(len(chunk.scores))]
    labels = [group_name([value]) for value in by]
    if len(labels) != len(scores):
        raise InvalidArgument("by", f"{len(labels):,} values for {len(scores):,} cells")
    return labels


def _draw_all(ax: Axes, values: Floats, is_hit: npt.NDArray[np.bool_], edges: Floats) -> str:
    ax.hist(
        [values[~is_hit], values[is_hit]], edges.tolist(), stacked=True, color=[BOX, REFERENCE], linewidth=0
    )
    ax.set_ylabel("cells")
    ax.yaxis.set_major_formatter("{x:,.0f}")
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    counts = np.histogram(values, edges)[0]
    below = np.sort(counts)[-2] if len(counts) > 1 else 0
    if counts.max() > 4 * max(below, 1):  # the many cells of score 0 would leave the others no height
        ax.set_ylim(0, 1.25 * below)
        return f"the tallest bar, {counts.max():,} cells, is cut"
    return ""


def _draw_rows(
    ax: Axes,
    values: Floats,
    is_hit: npt.NDArray[np.bool_],
    labels: list[str],
    edges: Floats,
    max_groups: int,
    by_hits: bool,
) -> str:
    names, codes = np.unique(np.array(labels, dtype=object), return_inverse=True)
    parts = [np.flatnonzero(codes == code) for code in range(len(names))]
    shares = [float(is_hit[part].mean()) for part in parts]
    medians = [float(np.median(values[part])) for part in parts]
    order = sorted(range(len(names)), key=lambda i: (-shares[i] if by_hits else 0, -medians[i], names[i]))
    shown = order[:max_groups]
    are_cut = [
        _draw_row(ax, place, values[parts[group]], is_hit[parts[group]], edges)
        for place, group in enumerate(shown)
    ]
    texts = [f"{names[g]}  (n = {len(parts[g]):,})" for g in shown]
    ax.set_yticks(range(len(shown)), texts, parse_math=False)
    ax.set_ylim(len(shown) - 0.7, -1.0)
    if by_hits:
        right = ax.secondary_yaxis("right")
        right.set_yticks(range(len(shown)), [f"{100 * shares[g]:.1f} %" for g in shown], color=REFERENCE)
        right.tick_params(length=0)
        right.spines["right"].set_visible(False)
    lighten(ax)
    more = len(order) - len(shown)
    notes = ["bars of many cells of one score are cut"] if any(are_cut) else []
    return "; ".join([*notes, *([f"not shown: {counted(more, 'group')}"] if more else [])])


def _draw_row(ax: Axes, place: int, values: Floats, is_hit: npt.NDArray[np.bool_], edges: Floats) -> bool:
    """Draw a group's histogram; returns whether its tallest bar is cut."""
    counts, hits = np.histogram(values, edges)[0], np.histogram(values[is_hit], edges)[0]
    # as in one histogram of all: the many cells of score 0 would leave the others no height
    below, tallest = max(1, np.sort(counts)[-2]), counts.max()
    height = 1.25 * below if tallest > 4 * below else tallest
    counts, hits = np.minimum(counts, height), np.minimum(hits, height)
    scale = 0.85 / max(1, height)
    ax.stairs(place - scale * counts, edges, baseline=place, fill=True, color=BOX, zorder=2)
    ax.stairs(place - scale * hits, edges, baseline=place, fill=True, color=REFERENCE, zorder=3)
    ax.stairs(place - scale * counts, edges, baseline=place, color=INK, linewidth=0.5, zorder=4)
    ax.plot([np.median(values)], [place - 0.06], marker="|", color=INK, markersize=6, zorder=5)
    return bool(tallest > height)


def _label(
    ax: Axes,
    values: Floats,
    is_hit: npt.NDArray[np.bool_],
    limit: float | None,
    cutoff: HitRule | str | float | None,
    note: str,
) -> None:
    ax.set_xlabel(f"score of {counted(len(values), 'cell')}" + (f"\n{note}" if note else ""))
    if limit is None:
        return
    ax.axvline(limit, color=REFERENCE, linewidth=0.9, linestyle="--", zorder=6)
    rule = f" ({cutoff})" if isinstance(cutoff, str | HitRule) else ""
    n_hits = int(is_hit.sum())
    share = 100 * n_hits / len(values)
    left, right = ax.get_xlim()
    at_right = limit > (left + right) / 2  # the text goes where there is room
    ax.annotate(
        f"cut-off {limit:.4g}{rule}: {counted(n_hits, 'hit')}, {share:.1f} %",
        (limit, 1),
        xycoords=("data", "axes fraction"),
        xytext=(-3 if at_right else 3, 3),
        textcoords="offset points",
        ha="right" if at_right else "left",
        color=REFERENCE if n_hits else GREY,
        fontsize="small",
    )
