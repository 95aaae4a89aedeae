"""Mean scores of groups against those of random signatures.

A group's mean score is the sum over genes of w_g m_g / divisor, m the group's mean attributions. A random
signature has each gene replaced by one drawn from its bin (`bins`), without replacement, its weight kept. Per
bin this is a linear permutation statistic, whose first three moments are known exactly (Cochran, Sampling
Techniques, section 2; Hajek 1961, Ann. Math. Statist. 32). With N genes in the bin, a centred m of them
c, and w padded with zeros to N values a around their mean:

    expectation  sum(w) mean(m)
    variance     sum a^2 sum c^2 / (N - 1)
    third moment sum a^3 sum c^3 N / ((N - 1) (N - 2))
    where        sum a^2 = sum w^2 - (sum w)^2 / N
                 sum a^3 = sum w^3 - 3 sum w sum w^2 / N + 2 (sum w)^3 / N^2

Bins are drawn from independently, so that cumulants add.

p is that of the *upper* tail. Marker genes make m, and so the sum, skewed to the right: a normal gives ten
times too many p below 0.001 on real cells. So the tail is Pearson's type III of the same three moments, and
where that is small, p is refined with random signatures (`Refinement`), which follow from the signature
alone: the same question has the same answer.

The limit of this null: random genes are not co-expressed. The genes of a real set often are, so that the mean
over them varies more from group to group than that of random ones: the null says that a group's score is more
than genes like these give by chance, not that it is more than sets like this one give.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import xxhash

from insignia_index.kernels.random_sets import bin_moments, random_scores
from insignia_index.null.bins import Bins
from insignia_index.null.tail import pearson3_upper_tail, sampled_upper_tail

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

#: Groups of a signature that are drawn for at a time: 10,000 draws of them take 40 MB.
_COLUMNS_AT_ONCE = 512


@dataclass(frozen=True, slots=True)
class Refinement:
    """How p is refined by random signatures where it is below ``below``.

    ``n_draws`` of them for each signature, first `FIRST` and the others only for groups that need them; fewer
    if draws times genes times groups came to more than ``most_terms``, and none if that were fewer than
    `FIRST`.
    """

    n_draws: int = 10_000
    below: float = 0.15
    most_terms: float = 2e9

    def draws(self, n_genes: int, n_groups: int) -> int:
        """How many for a signature whose p is to be refined in so many groups; 0: none."""
        n = min(self.n_draws, int(self.most_terms // max(1, n_genes * n_groups)))
        return n if n >= FIRST and n_groups else 0


FIRST = 1_000
#: Draws among the `FIRST` that reach a score whose p needs no more of them.
_PLENTY = 150

#: Of a search: some 20 ms for 40 groups. A screen does without.
THOROUGH = Refinement()


@dataclass(frozen=True, slots=True)
class NullTest:
    """Arrays float64 (n_signatures, n_groups); ``z``, ``skew``, ``p``: NaN where no random score can vary."""

    mean: Floats
    expected: Floats
    sd: Floats
    skew: Floats
    z: Floats
    p: Floats


@dataclass(frozen=True, slots=True)
class _Part:
    """Groups of the same bins, int64 (n,), and of each bin and group, float64 (n_bins, n), its moments.

    They are mean, variance (of a sample) and the sum of the third powers around the mean.
    """

    groups: Ints
    bins: Bins
    mean: Floats
    variance: Floats
    cubes: Floats

    @classmethod
    def of(cls, by_gene: Floats, groups: Ints, bins: Bins) -> _Part:
        values = by_gene if len(groups) == by_gene.shape[1] else np.ascontiguousarray(by_gene[:, groups])
        moments = [np.zeros((len(bins.sizes), len(groups))) for _ in range(3)]
        bin_moments(values, bins.order, bins.starts, bins.sizes, *moments)
        return cls(groups, bins, *moments)

    def moments(self, weights: Any) -> tuple[Floats, Floats, Floats]:
        """Expectation, variance, third central moment of random weighted sums, (n_signatures, n_groups)."""
        first, second, third = (self._by_bin(weights, power) for power in (1, 2, 3))
        sizes = self.bins.sizes.astype(np.float64)
        squares = first.multiply(first).tocsr()
        around = (second - squares.multiply(1 / sizes)).tocsr()
        cubed = (
            third
            - first.multiply(second).multiply(3 / sizes)
            + squares.multiply(first).multiply(2 / sizes**2)
        ).tocsr()
        variance = around @ self.variance
        # what is left of the whole by rounding, where every gene of a bin is in the signature, is nothing
        variance[variance <= 1e-12 * (second @ self.variance)] = 0
        factor = np.where(sizes > 2, sizes / np.maximum((sizes - 1) * (sizes - 2), 1), 0)
        third_moment = cubed @ (factor[:, None] * self.cubes)
        return first @ self.mean, variance, third_moment

    def _by_bin(self, weights: Any, power: int) -> Any:
        """Sums of a power of the weights by bin, CSR (n_signatures, n_bins)."""
        from scipy.sparse import csr_matrix

        parts = weights.data.astype(np.float64) ** power, self.bins.of_gene[weights.indices], weights.indptr
        return _summed(csr_matrix(parts, shape=(weights.shape[0], len(self.bins.sizes)), copy=True))


class GroupNull:
    """The null of groups with mean attributions ``means`` float64 (n_groups, n_genes), best by gene.

    ``bins``: indices of groups, int64, and the bins of these; together all groups, each once.
    """

    def __init__(self, means: Floats, bins: Sequence[tuple[Ints, Bins]]) -> None:
        #: float64 (n_genes, n_groups)
        self.by_gene = np.ascontiguousarray(means.T)
        self._parts = [_Part.of(self.by_gene, groups, its_bins) for groups, its_bins in bins]

    @property
    def size_bytes(self) -> int:
        """Memory held."""
        return self.by_gene.nbytes + sum(
            3 * part.mean.nbytes + 2 * part.bins.of_gene.nbytes for part in self._parts
        )

    def test(
        self,
        weights: Any,
        divisors: npt.ArrayLike = 1.0,
        refinement: Refinement | None = None,
        check: Callable[[], None] = lambda: None,
    ) -> NullTest:
        """Test every signature in every group.

        ``weights``: scipy CSR float64 (n_signatures, n_genes), without repeated entries; ``divisors`` float64
        (n_signatures,) or one: what turns a weighted sum into the score. The answer for a signature does not
        depend on the others. ``check`` is called between signatures and may raise. Six arrays are made: give
        signatures in blocks.
        """
        total = weights @ self.by_gene
        expected, variance, cubes = (np.empty(total.shape) for _ in range(3))
        for part in self._parts:
            expected[:, part.groups], variance[:, part.groups], cubes[:, part.groups] = part.moments(weights)
        sd = np.sqrt(variance)
        with np.errstate(divide="ignore", invalid="ignore"):
            z = np.where(sd > 0, (total - expected) / sd, np.nan)
            skew = np.where(sd > 0, cubes / sd**3, np.nan)
        p = pearson3_upper_tail(z, skew)
        if refinement is not None:
            for i in range(len(total)):
                row = slice(weights.indptr[i], weights.indptr[i + 1])
                genes, values = weights.indices[row], weights.data[row]
                n_draws = refinement.draws(len(genes), int(np.count_nonzero(p[i] < refinement.below)))
                for part in self._parts if n_draws else ():
                    check()
                    small = part.groups[p[i, part.groups] < refinement.below]
                    if len(small):
                        draws = _Draws(self.by_gene, part.bins, genes, values)
                        _refine(draws, small, total[i], sd[i], p[i], n_draws)
        by = np.broadcast_to(np.asarray(divisors, np.float64), (len(total),))[:, None]
        return NullTest(total / by, expected / by, sd / by, skew, z, p)


def _refine(draws: _Draws, small: Ints, total: Floats, sd: Floats, p: Floats, n_draws: int) -> None:
    """Write refined p (n_groups,) over those of the groups ``small``."""
    for part in np.array_split(small, -(-len(small) // _COLUMNS_AT_ONCE)):
        found = draws.scores(part, FIRST)
        tolerance = 1e-12 * (np.abs(total[part]) + sd[part])
        p[part], reach = sampled_upper_tail(found, total[part], tolerance)
        few = reach < _PLENTY
        if n_draws > FIRST and few.any():
            again, found = part[few], draws.scores(part[few], n_draws)
            p[again], _ = sampled_upper_tail(found, total[again], tolerance[few])


class _Draws:
    """Random signatures of one signature: the same whenever they are asked for."""

    def __init__(self, by_gene: Floats, of: Bins, genes: Ints, weights: Floats) -> None:
        self._by_gene = by_gene
        of_gene, sizes = of.of_gene[genes], of.sizes
        order = np.lexsort((genes, of_gene))
        self._weights = weights[order].astype(np.float64)
        bins, where = np.unique(of_gene[order], return_inverse=True)
        starts = np.cumsum(sizes[bins]) - sizes[bins]
        self._starts, self._sizes = starts[where], sizes[bins][where]
        #: genes that may be drawn, bin by bin
        self._pool = np.concatenate([of.genes(b) for b in bins.tolist()])
        key = genes[order].astype("<i8").tobytes() + self._weights.astype("<f8").tobytes()
        self._seed = np.uint64(xxhash.xxh3_64_intdigest(key))

    def scores(self, groups: Ints, n_draws: int) -> Floats:
        """Weighted sums in the groups under the first ``n_draws`` random signatures."""
        values = self._by_gene[self._pool[:, None], groups]
        out = np.empty((n_draws, len(groups)))
        random_scores(values, self._starts, self._sizes, self._weights, self._seed, out)
        return out


def _summed(matrix: Any) -> Any:
    matrix.sum_duplicates()
    return matrix
