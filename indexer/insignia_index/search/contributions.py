"""What each gene of a signature adds to the score of a cell, and to the mean score of a group."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from insignia_index.kernels.explain import gene_sums, gene_values, label_cells
from insignia_index.search.gene_cache import Postings
from insignia_index.search.grouping import Grouping
from insignia_index.search.plan import Query
from insignia_index.search.scoring import Work
from insignia_model.table import Column

#: Cells between two checks for a cancellation: with 200 genes some milliseconds.
_TASK_ROWS = 4096

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def cell_values(work: Work, postings: Postings, value_bits: int, rows: Ints) -> Floats:
    """Attribution of each gene in the cells ``rows`` (n,) of the snapshot, float64 (n, n_genes)."""
    snapshot, order = work.snapshot, np.argsort(rows)
    found = np.zeros((len(rows), len(postings.entries)))
    for start in range(0, len(rows), _TASK_ROWS):
        work.cancel.check()
        part = order[start : start + _TASK_ROWS]
        values = np.zeros((len(postings.entries), len(part)))
        gene_values(
            snapshot.table, snapshot.block_starts, rows[part],
            postings.entries, postings.payloads, value_bits == 16, values,
        )  # fmt: skip
        found[part] = values.T
    return found


@dataclass(frozen=True, slots=True)
class PresentGroups:
    """Groups that have cells that pass, by their index in the grouping (n_groups,), ascending.

    ``slot_group`` int64 (n_slots,): the place of each slot's group among them (of no meaning for empty
    slots); ``n_cells`` int64 (n_groups,).
    """

    index: Ints
    slot_group: Ints
    n_cells: Ints

    @classmethod
    def of(cls, grouping: Grouping) -> PresentGroups:
        """Those of a grouping."""
        slot_group = grouping.unit_group[grouping.slot_unit]
        n_cells = _counts(slot_group, grouping.slot_cells, grouping.n_groups)
        index = np.flatnonzero(n_cells)
        places = np.zeros(grouping.n_groups, np.int64)
        places[index] = np.arange(len(index))
        return cls(index, places[slot_group], n_cells[index])

    def count(self, by_slot: Ints) -> Ints:
        """Totals of the groups, of what was counted by slot (0 in slots without cells)."""
        return _counts(self.slot_group, by_slot, len(self.index))

    def least(self, grouping: Grouping, by_study: Ints) -> Ints:
        """Smallest of what is known by study, over the studies that have cells in the group."""
        found = np.full(len(self.index), np.iinfo(np.int64).max)
        filled = grouping.slot_cells > 0
        studies = grouping.unit_study[grouping.slot_unit[filled]]
        np.minimum.at(found, self.slot_group[filled], by_study[studies])
        return found


def group_sums(work: Work, postings: Postings, value_bits: int, groups: PresentGroups) -> Floats:
    """Sum of each gene's attributions over the cells of each group, float64 (n_groups, n_genes).

    The threads share the genes, and each gene is summed by one of them, in the order of the cells: the result
    does not depend on their number.
    """
    snapshot, grouping, n_groups = work.snapshot, work.grouping, len(groups.index)
    labels = work.buffers.take("labels", snapshot.n_cells, np.int32)
    tasks = work.tasks

    def label(i: int) -> None:
        label_cells(
            tasks[i], snapshot.block_starts, grouping.order, grouping.order_starts,
            grouping.slot_starts, groups.slot_group, n_groups, labels,
        )  # fmt: skip

    # cells that are filtered out have a label of their own, so that no posting needs a branch
    sums = np.zeros((len(postings.entries), n_groups + 1))

    def add(gene: int) -> None:
        gene_sums(
            snapshot.table, grouping.blocks, snapshot.block_starts, labels,
            postings.entries[gene], postings.payloads[gene], value_bits == 16, sums[gene],
        )  # fmt: skip

    work.run(label, len(tasks))
    work.run(add, len(sums))
    work.buffers.give("labels", labels)
    return sums[:, :n_groups].T


def score_parts(
    work: Work, query: Query, postings: Postings, value_bits: int, rows: Ints
) -> dict[str, Column]:
    """Columns score_up and score_down: what positive and negative weights add; none if all are positive."""
    up = query.weights > 0
    if up.all():
        return {}
    parts = cell_values(work, postings, value_bits, rows) * factors(query)
    return {
        "score_up": Column.numbers(parts[:, up].sum(axis=1)),
        "score_down": Column.numbers(parts[:, ~up].sum(axis=1)),
    }


def factors(query: Query) -> Floats:
    """What a gene's attribution is multiplied by to give its part of the score, float64 (n_genes,)."""
    return query.weights / query.divisor


def _counts(which: Ints, counts: Ints, n: int) -> Ints:
    # counts of cells are far below 2**53, up to which float64 is exact
    return np.bincount(which, counts, n).astype(np.int64)
