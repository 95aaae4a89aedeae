"""The null's columns of a search's groups."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix

from insignia_index.cancel import CancelToken
from insignia_index.null.bins import Matching, mixed_together
from insignia_index.null.group_null import THOROUGH, GroupNull
from insignia_index.null.pseudobulk import Pseudobulk
from insignia_index.null.small_groups import untested
from insignia_index.search.grouping import Grouping
from insignia_index.search.plan import Query
from insignia_index.snapshot import Snapshot
from insignia_model.condition import Condition
from insignia_model.fdr import false_discovery_rate
from insignia_model.table import Column, Table

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

#: Group means that are made at a time, and that are remembered for the next search of the same groups.
_MEANS_BYTES = 256 << 20


class Nulls:
    """What the nulls of one snapshot share. Raises `NoPseudobulk` when made. Safe for many threads."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self.pseudobulk = Pseudobulk(snapshot)
        self._lock = threading.Lock()
        self._kept: OrderedDict[object, list[tuple[int, GroupNull]]] = OrderedDict()

    @cached_property
    def matching(self) -> Matching:
        """Which genes stand for one another."""
        return Matching.of(self._snapshot, self.pseudobulk)

    def group_nulls(
        self,
        grouping: Grouping,
        group_by: tuple[str, ...],
        where: tuple[Condition, ...],
        cancel: CancelToken | None = None,
    ) -> Iterator[tuple[int, GroupNull]]:
        """Nulls of the grouping's groups, some at a time, each with the number of its first group.

        Groups without a cell that passes have means 0. Raises `GroupsNotWhole`.
        """
        # what decides which cells pass; the grouping itself may be made anew for the same question
        key = group_by, repr(where), np.packbits(grouping.slot_cells > 0).tobytes()
        with self._lock:
            kept = self._kept.get(key)
            if kept is not None:
                self._kept.move_to_end(key)
        if kept is not None:
            yield from kept
            return
        made = []
        for part in self._make(grouping, group_by, where, cancel or CancelToken()):
            made.append(part)
            yield part
        if len(made) == 1:  # else there are too many groups to keep
            with self._lock:
                self._kept[key] = made
                while len(self._kept) > 1 and self._kept_bytes() > 2 * _MEANS_BYTES:
                    self._kept.popitem(last=False)

    def _kept_bytes(self) -> int:
        return sum(null.size_bytes for parts in self._kept.values() for _, null in parts)

    def _make(
        self, grouping: Grouping, group_by: tuple[str, ...], where: tuple[Condition, ...], cancel: CancelToken
    ) -> Iterator[tuple[int, GroupNull]]:
        pseudobulk = self.pseudobulk
        groups = pseudobulk.unit_groups(grouping, group_by, where)
        passing = groups >= 0
        sets, set_of_study = self._snapshot.measured_sets
        set_of_unit = np.repeat(set_of_study, np.diff(pseudobulk.unit_starts))
        cells = pseudobulk.n_cells[passing], (groups[passing], set_of_unit[passing])
        counts = csr_matrix(cells, shape=(grouping.n_groups, len(sets)))
        together = mixed_together(counts)
        n_cells = np.asarray(counts.sum(axis=1)).ravel()
        step = max(1, _MEANS_BYTES // (8 * max(1, pseudobulk.n_genes)))
        for first in range(0, grouping.n_groups, step):
            stop = min(first + step, grouping.n_groups)
            inside = (groups >= first) & (groups < stop)
            unit_group = np.where(inside, groups - first, -1)
            means = pseudobulk.group_sums(unit_group, stop - first, cancel.check)
            means /= np.maximum(n_cells[first:stop], 1)[:, None]
            set_cells = counts[first:stop].toarray()
            if together is not None:
                set_cells[np.count_nonzero(set_cells, axis=1) > 1] = together
            yield first, GroupNull(means, self.matching.of_groups(set_cells, cancel.check))

    def columns(
        self,
        query: Query,
        grouping: Grouping,
        group_by: tuple[str, ...],
        where: tuple[Condition, ...],
        cancel: CancelToken,
    ) -> dict[str, Floats]:
        """null_mean, null_sd, null_z, null_p of every group, float64 (n_groups,)."""
        shape = (1, self.pseudobulk.n_genes)
        indptr = np.array([0, len(query.gene_ids)])
        weights = csr_matrix((query.weights, query.gene_ids, indptr), shape=shape)
        parts = []
        for _, null in self.group_nulls(grouping, group_by, where, cancel):
            test = null.test(weights, query.divisor, THOROUGH, cancel.check)
            parts.append(np.stack([test.expected[0], test.sd[0], test.z[0], test.p[0]]))
        together = np.concatenate([np.empty((4, 0)), *parts], axis=1)
        return dict(zip(("null_mean", "null_sd", "null_z", "null_p"), together, strict=True))


def with_null(table: Table, groups: Ints, null: dict[str, Floats], min_cells: int) -> Table:
    """The table of ``groups`` (of each row) with the null's columns and the FDR over its rows.

    Groups of fewer than ``min_cells`` cells are not tested.
    """
    columns = {name: values[groups] for name, values in null.items()}
    untested(columns, table["n_cells"].values < min_cells)
    columns["null_fdr"] = false_discovery_rate(columns["null_p"])
    return Table(table.columns | {name: Column.numbers(values) for name, values in columns.items()})
