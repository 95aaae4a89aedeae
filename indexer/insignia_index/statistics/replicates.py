"""Two sides compared with the sample as replicate: which samples can be, how, and what comes out.

**Which samples.** A sample has a value on a side if at least ``min_cells`` of its cells lie there. Its values
are the share of these cells that are hits and the mean of their scores.

**Paired or not.** Where a sample has a value on both sides (cell types: every sample has all of them), both
share the sample's own level and are no independent draws; only their difference is used (`linear.paired`).
Samples on one side only (diseases) are compared within their study (`linear.stratified`); studies that have
samples on one side only say nothing about the difference, because everything else differs between studies
too. Where some samples are of the one kind and some of the other, the design that has more information is
used alone: n pairs at least n / 2 (the precision of their mean difference, in units of one value's, if the
two values of a sample were uncorrelated), samples apart the sum over studies of n_a n_b / (n_a + n_b). The
choice looks at numbers of samples, never at values.

**How many.** ``min_samples`` on each side. Below three, the interval of a paired difference has one degree of
freedom (a factor of 12.7), and one sample decides what the spread is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from insignia_index.statistics.linear import Estimate, paired, stratified
from insignia_index.statistics.meta import RandomEffects, random_effects
from insignia_model.fdr import false_discovery_rate

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

MEASURES = ("hit_fraction", "mean")


@dataclass(frozen=True, slots=True)
class Sides:
    """Totals of every sample on both sides, (2, n_samples): first the group, then what it is compared with.

    ``study`` int64 (n_samples,); ``n_cells``, ``n_hits`` int64; ``score_sums`` and ``square_sums`` (of the
    scores' squares) float64.
    ``names``: how the sides are called in a reason.
    """

    study: Ints
    n_cells: Ints
    n_hits: Ints
    score_sums: Floats
    square_sums: Floats
    names: tuple[str, str]

    def values(self, measure: str) -> Floats:
        """One value a sample and side, (2, n_samples); NaN where the sample has no cell."""
        totals = self.n_hits if measure == "hit_fraction" else self.score_sums
        values: Floats = np.full(totals.shape, np.nan)
        np.divide(totals, self.n_cells, out=values, where=self.n_cells > 0)
        return values

    def cell_variance(self, measure: str, used: npt.NDArray[np.bool_]) -> float:
        """Variance of single cells about their study's rate, or their sample's mean: of the mean sample.

        Over the samples and sides ``used``, bool (2, n_samples). The mean is one of samples: over cells, a
        study of many would say how much those of another vary.
        """
        n_cells, study = self.n_cells[used], np.broadcast_to(self.study, used.shape)[used]
        if measure == "hit_fraction":
            rate = np.bincount(study, self.n_hits[used]) / np.maximum(np.bincount(study, n_cells), 1)
            variance = rate * (1 - rate)
        else:
            within = (self.square_sums[used] - self.score_sums[used] ** 2 / n_cells).clip(min=0)
            variance = np.bincount(study, within) / np.maximum(np.bincount(study, n_cells - 1), 1)
        return float(variance[study].mean())


@dataclass(frozen=True, slots=True)
class Design:
    """Samples (indices) on the first and on the second side; paired: the same ones."""

    kind: str
    first: Ints
    second: Ints
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Comparison:
    """The difference of two sides in one measure, or the ``reason`` why there is no test of it.

    ``means``: of the values of the samples that were used, on both sides.
    """

    measure: str
    design: str | None
    n_samples: tuple[int, int]
    n_studies: int
    means: tuple[float, float] | None = None
    estimate: Estimate | None = None
    summary: RandomEffects | None = None
    fdr: float | None = None
    reason: str | None = None


def compare(sides: Sides, min_cells: int, min_samples: int) -> list[Comparison]:
    """Both measures of two sides."""
    design = choose_design(sides, min_cells, min_samples)
    numbers = len(design.first), len(design.second)
    if design.reason is not None:
        # every sample that could have been used, not only those of studies with both sides
        return [Comparison(m, None, numbers, 0, reason=design.reason) for m in MEASURES]
    n_studies = len(np.unique(sides.study[design.first]))
    rows = []
    for measure in MEASURES:
        values = sides.values(measure)
        noise = _noise(design, sides, measure)
        estimate = _estimate(design, values, noise, sides.study)
        rows.append(
            Comparison(
                measure,
                design.kind,
                numbers,
                n_studies,
                (float(values[0, design.first].mean()), float(values[1, design.second].mean())),
                estimate,
                summarise_studies(design, values, noise, sides.study, min_samples),
                reason=None if estimate.se > 0 else _no_spread(design, estimate),
            )
        )
    return rows


def choose_design(sides: Sides, min_cells: int, min_samples: int) -> Design:
    """Which samples are compared, and whether with themselves; see the head of this module."""
    has = sides.n_cells >= min_cells
    both = has[0] & has[1]
    pairs = np.flatnonzero(both)
    n_studies = int(sides.study.max()) + 1 if len(sides.study) else 0
    apart = has & ~both
    numbers = np.array([np.bincount(sides.study[side], minlength=n_studies) for side in apart])
    shared = (numbers[0] > 0) & (numbers[1] > 0)
    first, second = (np.flatnonzero(side & shared[sides.study]) for side in apart)
    n_a, n_b = numbers[:, shared]
    information = float((n_a * n_b / (n_a + n_b)).sum())
    can_pair = len(pairs) >= min_samples
    if can_pair and len(pairs) / 2 >= information:
        return Design("paired", pairs, pairs)
    if min(len(first), len(second)) >= min_samples:
        return Design("stratified" if shared.sum() > 1 else "unpaired", first, second)
    if can_pair:
        return Design("paired", pairs, pairs)
    reason = _too_few(sides, has, min_cells, min_samples)
    return Design("none", np.flatnonzero(has[0]), np.flatnonzero(has[1]), reason)


def summarise_studies(
    design: Design, values: Floats, noise: Floats, study: Ints, min_samples: int
) -> RandomEffects | None:
    """Random-effects summary over the studies that have ``min_samples`` on each side; None if not two do.

    A study whose samples show no spread has no variance to be weighted with and stays out.
    """
    effects, variances = [], []
    for one in np.unique(study[design.first]):
        first = design.first[study[design.first] == one]
        second = design.second[study[design.second] == one]
        if min(len(first), len(second)) < min_samples:
            continue
        estimate = _estimate(replace(design, first=first, second=second), values, noise, study)
        if estimate.se > 0:
            effects.append(estimate.effect)
            variances.append(estimate.se**2)
    return random_effects(np.array(effects), np.array(variances)) if len(effects) > 1 else None


def with_fdr(rows: Sequence[Comparison]) -> list[Comparison]:
    """The rows with the false discovery rate over all that have a p (Benjamini and Hochberg 1995)."""
    tested = [i for i, row in enumerate(rows) if row.estimate is not None and row.reason is None]
    found = list(rows)
    if tested:
        p = [row.estimate.p for row in (rows[i] for i in tested) if row.estimate is not None]
        for i, fdr in zip(tested, false_discovery_rate(p).tolist(), strict=True):
            found[i] = replace(rows[i], fdr=fdr)
    return found


def _noise(design: Design, sides: Sides, measure: str) -> Floats:
    """Variance of each value that is due to its number of cells, (2, n_samples)."""
    used = np.zeros(sides.n_cells.shape, np.bool_)
    used[0, design.first] = used[1, design.second] = True
    return sides.cell_variance(measure, used) / np.maximum(sides.n_cells, 1)


def _estimate(design: Design, values: Floats, noise: Floats, study: Ints) -> Estimate:
    first, second = design.first, design.second
    a, b = values[0, first], values[1, second]
    if design.kind == "paired":
        return paired(a, b, study[first])
    return stratified(a, study[first], b, study[second], noise[0, first], noise[1, second])


def _no_spread(design: Design, estimate: Estimate) -> str:
    if design.kind == "paired":
        same = "the difference is the same in all samples" + (" (0)" if estimate.effect == 0 else "")
    else:
        same = "samples of one side do not differ" + (", nor do the sides" if estimate.effect == 0 else "")
    return f"{same}: there is no spread to test against"


def _too_few(sides: Sides, has: npt.NDArray[np.bool_], min_cells: int, min_samples: int) -> str:
    n_a, n_b = (int(side.sum()) for side in has)
    n_all, n_both = int(has.any(axis=0).sum()), int(has.all(axis=0).sum())
    small = f" of at least {min_cells} cells" if ((sides.n_cells > 0) & ~has).any() else ""
    counted = f"{n_all} sample{'' if n_all == 1 else 's'}{small}: {n_a} with {sides.names[0]}, "
    counted += f"{n_b} with {sides.names[1]}" + (f", {n_both} of them with both" if n_both else "")
    if min(n_a, n_b) < min_samples:
        return f"{counted}; at least {min_samples} on each side are needed"
    return (
        f"{counted}, but too few of them in studies that have both sides: at least {min_samples} on each "
        "are needed there, because a difference between studies is no difference between the sides"
    )
