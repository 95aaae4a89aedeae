"""What a screen takes from the groups' mean attributions by gene: mean scores, nulls, leading genes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from insignia_index.cancel import CancelToken
from insignia_index.kernels.summarise import CELLS, LEAST_MEASURED, MEAN, SAMPLES
from insignia_index.search.contributions import PresentGroups, group_sums
from insignia_index.search.engine import Session
from insignia_index.search.grouping import Grouping
from insignia_index.search.plan import Query
from insignia_index.search.scoring import Work
from insignia_model.errors import GroupsNotWhole, NoPseudobulk
from insignia_model.screen import ScreenRequest

if TYPE_CHECKING:
    from insignia_index.null.group_null import GroupNull

#: Of a signature with more genes than this not all are sorted for every group.
_MANY_GENES = 1_024

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class GroupGenes:
    """Mean attributions of the groups by gene, from the pseudobulk: in parts, each with its first group."""

    session: Session
    parts: list[tuple[int, GroupNull]]

    @classmethod
    def of(
        cls, session: Session, grouping: Grouping, request: ScreenRequest, cancel: CancelToken
    ) -> GroupGenes | None:
        """None where the atlas keeps no sums for these groups, unless the null needs them, which raises."""
        try:
            nulls = session.nulls
            return cls(session, list(nulls.group_nulls(grouping, request.group_by, request.where, cancel)))
        except (NoPseudobulk, GroupsNotWhole):
            if request.null:
                raise
            return None

    def means(self, queries: list[Query]) -> Floats:
        """Mean scores float64 (n_queries, n_groups)."""
        weights, divisors = self._weights(queries)
        found = [weights @ null.by_gene for _, null in self.parts]
        together: Floats = np.concatenate(found, axis=1) / divisors[:, None]
        return together

    def null_columns(self, queries: list[Query], cancel: CancelToken) -> dict[str, Floats]:
        """null_mean, null_sd, null_z, null_p, float64 (n_queries, n_groups).

        p is Pearson's type III alone: refined with random signatures, as a search does it, thousands of
        signatures would take minutes and not seconds.
        """
        weights, divisors = self._weights(queries)
        tests = [null.test(weights, divisors, None, cancel.check) for _, null in self.parts]
        columns = {"null_mean": "expected", "null_sd": "sd", "null_z": "z", "null_p": "p"}
        return {
            name: np.concatenate([getattr(test, attribute) for test in tests], axis=1)
            for name, attribute in columns.items()
        }

    def of_query(self, query: Query) -> Floats:
        """Mean attributions of the query's genes, float64 (n_genes, n_groups)."""
        return np.concatenate([null.by_gene[query.gene_ids] for _, null in self.parts], axis=1)

    def _weights(self, queries: list[Query]) -> tuple[Any, Floats]:
        from scipy.sparse import csr_matrix

        indptr = np.cumsum([0, *(len(query.gene_ids) for query in queries)])
        values = np.concatenate([query.weights for query in queries])
        genes = np.concatenate([query.gene_ids for query in queries])
        shape = (len(queries), len(self.session.snapshot.genes))
        divisors = np.array([query.divisor for query in queries])
        return csr_matrix((values, genes, indptr), shape=shape), divisors


class MeanRows:
    """Rows of mean scores without scoring cells: what of them is the same for all signatures."""

    def __init__(self, grouping: Grouping, min_cells: int) -> None:
        self._grouping = grouping
        self._present = PresentGroups.of(grouping)
        n_units = len(grouping.unit_group)
        unit_cells = np.bincount(grouping.slot_unit, grouping.slot_cells, n_units)
        replicates = grouping.unit_is_named & (unit_cells >= min_cells) & (unit_cells > 0)
        n_samples = np.bincount(grouping.unit_group[replicates], minlength=grouping.n_groups)
        self._counts = np.zeros((4, len(self._present.index)), np.int64)
        self._counts[CELLS] = self._present.n_cells
        self._counts[SAMPLES] = n_samples[self._present.index]

    def of(self, query: Query, means: Floats) -> tuple[Ints, Ints, Floats]:
        """Groups, highest mean first, counts (4, n) and figures (6, n); ``means`` float64 (n_groups,)."""
        counts = self._counts.copy()
        measured = query.measured
        if len(measured) and measured.min() == measured.max():
            counts[LEAST_MEASURED] = measured[0]
        else:
            counts[LEAST_MEASURED] = self._present.least(self._grouping, measured)
        figures = np.full((6, counts.shape[1]), np.nan)
        figures[MEAN] = means[self._present.index]
        order = np.argsort(-figures[MEAN], kind="stable")
        return self._present.index[order], counts[:, order], figures[:, order]


def posting_means(work: Work, session: Session, queries: list[Query]) -> tuple[Ints, Floats]:
    """Genes of the queries int64 (n,), ascending, and their sums of attributions (n, n_groups)."""
    genes = np.unique(np.concatenate([query.gene_ids for query in queries]))
    present = PresentGroups.of(work.grouping)
    found = np.zeros((len(genes), work.grouping.n_groups))
    found[:, present.index] = group_sums(work, session.genes.get(genes), session.value_bits, present).T
    return genes, found


def _largest(values: Floats, n: int) -> Ints:
    """Rows of the ``n`` largest of every column, largest first, int64 (n, n_columns); ties: lower row."""
    if len(values) <= _MANY_GENES or n == 0:
        return np.argsort(-values, axis=0, kind="stable")[:n]
    found = np.empty((n, values.shape[1]), np.int64)
    least = np.partition(values, len(values) - n, axis=0)[len(values) - n]
    for column in range(values.shape[1]):
        rows = np.flatnonzero(values[:, column] >= least[column])
        found[:, column] = rows[np.argsort(-values[rows, column], kind="stable")[:n]]
    return found


def leading_genes(query: Query, names: list[str], means: Floats, groups: Ints, n: int) -> list[str]:
    """The ``n`` genes that add most to the score of each of ``groups``, largest first, joined by commas.

    ``means`` float64 (n_genes of the query, n_groups); any multiple of a group's will do.
    """
    added = means[:, groups] * query.weights[:, None]
    n = min(n, len(added))
    order = _largest(added, n)
    symbols = np.array([names[gene] for gene in query.gene_ids.tolist()], object)
    positive = np.take_along_axis(added, order, axis=0) > 0
    return [
        ",".join(symbols[column][is_positive])
        for column, is_positive in zip(order.T, positive.T, strict=True)
    ]
