"""Shares of genes, how many there are in effect, and how groups rank without one of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

#: Means that differ by less than this share of the largest one are equal: beyond it are rounding errors.
_DIGITS = 12


def shares(contributions: Floats) -> Floats:
    """Each contribution (n, n_genes) over the sum of the absolute ones of its row; NaN where all are 0.

    Where no contribution is negative, this is its share of the score. Where some are, their signs stay, and
    the absolute shares still add up to 1, which shares of a sum that cancels do not.
    """
    totals = np.abs(contributions).sum(axis=1, keepdims=True)
    found: Floats = np.divide(
        contributions, totals, out=np.full_like(contributions, np.nan), where=totals > 0
    )
    return found


def effective_number(gene_shares: Floats) -> Floats:
    """How many genes of equal contribution would be as even: exp of the entropy of the absolute shares.

    ``gene_shares`` (n, n_genes) as `shares` gives them. Hill's number of order 1 (Hill 1973, Ecology 54:427,
    doi:10.2307/1934352). From 1 (one gene makes the score) to n_genes; NaN where there is no share.
    """
    p = np.abs(gene_shares)
    logarithms = np.log(p, out=np.zeros_like(p), where=p > 0)
    found: Floats = np.exp(-(p * logarithms).sum(axis=1))
    return found


def strongest(contributions: Floats) -> Ints:
    """Gene of the largest absolute contribution in each row (ties: the first), -1 where all are 0."""
    size = np.abs(contributions)
    return np.where(size.any(axis=1), size.argmax(axis=1), -1)


def by_size(contributions: Floats) -> Ints:
    """Order of the genes in each row: largest absolute contribution first, ties: the first gene."""
    return np.argsort(-np.abs(contributions), axis=-1, kind="stable")


@dataclass(frozen=True, slots=True)
class LeftOut:
    """What becomes of the groups' ranking when one gene is left out, by gene (n_genes,).

    ``correlation`` float64: Spearman's, of the means with and without it; NaN where the means of fewer than
    two groups differ. ``first`` int64: place of the group that is then first. ``rank`` int64: the rank that
    the group which is first with all genes then has (1: it stays first); -1 both where nothing is left.
    """

    correlation: Floats
    first: Ints
    rank: Ints

    @classmethod
    def nothing(cls, n_genes: int) -> LeftOut:
        """Of no ranking."""
        return cls(np.full(n_genes, np.nan), np.full(n_genes, -1), np.full(n_genes, -1))


def leave_out(contributions: Floats) -> LeftOut:
    """Rank the groups by their means without each gene in turn.

    ``contributions`` float64 (n_groups, n_genes), the groups (one or more) in the order of their means, best
    first. Equal means: the order given. The mean over the remaining genes has another divisor too, the same
    in all groups, which does not change their order.
    """
    n_genes = contributions.shape[1]
    means = contributions.sum(axis=1)
    ranks = _average_ranks(_rounded(means, contributions))
    found = LeftOut.nothing(n_genes)
    for gene in range(n_genes):
        without = _rounded(means - contributions[:, gene], contributions)
        if n_genes == 1 or not without.any():
            continue
        found.first[gene] = without.argmax()
        found.rank[gene] = 1 + np.count_nonzero(without > without[0])
        found.correlation[gene] = _pearson(ranks, _average_ranks(without))
    return found


def _rounded(means: Floats, contributions: Floats) -> Floats:
    largest = np.abs(contributions).sum(axis=1).max()
    return np.round(means / largest, _DIGITS) if largest > 0 else means


def order_of_means(contributions: Floats) -> Ints:
    """Groups (n_groups,) by mean, highest first; equal ones in the order given."""
    if not len(contributions):
        return np.empty(0, np.int64)
    return np.argsort(-_rounded(contributions.sum(axis=1), contributions), kind="stable")


def _average_ranks(values: Floats) -> Floats:
    """Ranks from 1, lowest first; equal values have the mean of their ranks."""
    _, which, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: Floats = (np.cumsum(counts) - (counts - 1) / 2)[which]
    return ranks


def _pearson(a: Floats, b: Floats) -> float:
    a, b = a - a.mean(), b - b.mean()
    size = np.sqrt((a @ a) * (b @ b))
    return float(np.clip((a @ b) / size, -1, 1)) if size > 0 else np.nan
