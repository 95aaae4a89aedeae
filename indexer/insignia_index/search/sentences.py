"""When one gene carries a result, a sentence says so."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from insignia_index.search.leave_out import LeftOut, shares

#: A gene carries a score of which it makes at least this share ...
CARRIES_SHARE = 0.5
#: ... if the signature has so many genes or more: of two, one always makes half.
LEAST_GENES = 3
#: A ranking with a lower correlation (Spearman's) to the one with all genes is another one ...
REORDERED_BELOW = 0.5
#: ... if so many groups or more are ranked: two that change places correlate with -1.
LEAST_GROUPS = 4
#: Names in one sentence.
MOST_NAMED = 3


@dataclass(frozen=True, slots=True)
class Told:
    """What the sentences are about.

    ``genes`` (n_genes,) and ``groups`` (n_groups,): names; groups are those that are ranked, best first.
    ``group_parts`` (n_groups, n_genes) and ``cell_parts`` (n_cells, n_genes): contributions, float64.
    """

    genes: Sequence[str]
    groups: Sequence[str]
    group_parts: npt.NDArray[np.float64]
    cell_parts: npt.NDArray[np.float64]
    left_out: LeftOut | None


def sentences(told: Told) -> tuple[str, ...]:
    """Sentences on single genes that carry the first group, the ranking or the best cells; often none."""
    if len(told.genes) < LEAST_GENES:
        return ()
    found: list[str] = []
    if told.left_out is not None:
        carrier = _carrier(told)
        if carrier >= 0:
            found.append(_carried(told, told.left_out, carrier))
        found += _dethroned(told, told.left_out, carrier)
        found += _reordered(told, told.left_out)
    return (*found, *_carried_cells(told))


def _carrier(told: Told) -> int:
    share = np.abs(shares(told.group_parts[:1])[0])
    gene = int(np.nan_to_num(share).argmax())
    return gene if share[gene] >= CARRIES_SHARE else -1


def _carried(told: Told, left_out: LeftOut, gene: int) -> str:
    share = abs(float(shares(told.group_parts[:1])[0, gene]))
    name, first, n = told.genes[gene], told.groups[0], len(told.groups)
    if (told.group_parts[0] < 0).any():
        made = f"{name} alone is {_percent(share)} of all that raises or lowers the mean score of {first}"
    else:
        made = f"{name} alone makes {_percent(share)} of the mean score of {first}"
    if n == 1:
        return f"{made}."
    then = int(left_out.first[gene])
    if then < 0:
        return f"{made}, the first of {n:,} groups; without it no group would score above the others."
    if then > 0:
        return f"{made}, the first of {n:,} groups; without it the first group would be {told.groups[then]}."
    return f"{made}, the first of {n:,} groups; without it this group would still be the first."


def _dethroned(told: Told, left_out: LeftOut, carrier: int) -> list[str]:
    genes = [g for g in np.flatnonzero(left_out.first > 0).tolist() if g != carrier]
    size = np.abs(told.group_parts[0])
    genes.sort(key=lambda g: -size[g])
    if len(genes) > MOST_NAMED:
        return [
            f"Which of the {len(told.groups):,} groups is the first hangs on single genes: without one of "
            f"{_names(told, genes)} it would not be {told.groups[0]}."
        ]
    return [
        f"Without {told.genes[g]} the first of the {len(told.groups):,} groups would be "
        f"{told.groups[left_out.first[g]]}, not {told.groups[0]}."
        for g in genes
    ]


def _reordered(told: Told, left_out: LeftOut) -> list[str]:
    if len(told.groups) < LEAST_GROUPS:
        return []
    genes = np.flatnonzero(left_out.correlation < REORDERED_BELOW)
    genes = genes[np.argsort(left_out.correlation[genes], kind="stable")]
    if len(genes) == 0:
        return []
    worst = left_out.correlation[genes[0]]
    return [
        f"Without {_names(told, genes.tolist())} the {len(told.groups):,} groups would be in quite another "
        f"order (Spearman's correlation {worst:.2f})."
    ]


def _carried_cells(told: Told) -> list[str]:
    carried = np.abs(np.nan_to_num(shares(told.cell_parts))) >= CARRIES_SHARE
    n_cells, counts = len(carried), carried.sum(axis=0)
    return [
        f"{told.genes[gene]} alone makes half or more of the score of "
        f"{counts[gene]:,} of the {n_cells:,} best cells."
        for gene in np.flatnonzero(2 * counts > n_cells).tolist()
    ]


def _names(told: Told, genes: Iterable[int]) -> str:
    names = [told.genes[gene] for gene in genes]
    if len(names) > MOST_NAMED:
        return f"{', '.join(names[:MOST_NAMED])} or {len(names) - MOST_NAMED:,} more"
    return " or ".join(names)


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
