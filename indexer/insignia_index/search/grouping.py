"""Groups, replicate units, slots.

A *unit* is the part of a sample that lies in one group: (group, study, sample). A *slot* is the part of a
unit that lies in one block. Kernels write statistics per slot: every slot belongs to one block, every
block to one task, so that threads never meet and results do not depend on their number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from insignia_index.kernels.slots import sort_by_slot
from insignia_index.search.filters import check_fields, study_mask
from insignia_index.snapshot import Snapshot
from insignia_model.condition import Condition
from insignia_model.errors import LimitExceeded
from insignia_model.table import Column

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Grouping:
    """Cells of a snapshot by slot, slots by unit, units by group.

    ``codes`` uint16 (n_cells,): slot of a cell within its block, whether or not the cell passes.
    ``order`` uint16 (n_cells that pass,): the cells of each block, by their place in it, sorted by slot;
    ``order_starts`` int64 (n_slots + 1,): where each slot's begin.
    ``slot_starts`` int64 (n_blocks + 1,), ``slot_unit`` and ``slot_cells`` int64 (n_slots,).
    ``unit_group``, ``unit_study`` int64 (n_units,); ``unit_names``: columns study and sample (n_units);
    ``unit_is_named`` bool (n_units,): its cells say their sample.
    ``group_keys``: a column (n_groups) per ``group_by`` field. ``blocks``: those with a cell that passes.
    """

    codes: npt.NDArray[np.uint16]
    order: npt.NDArray[np.uint16]
    order_starts: Ints
    slot_starts: Ints
    slot_unit: Ints
    slot_cells: Ints
    unit_group: Ints
    unit_study: Ints
    unit_names: dict[str, Column]
    unit_is_named: npt.NDArray[np.bool_]
    group_keys: dict[str, Column]
    n_groups: int
    blocks: Ints

    @property
    def n_cells(self) -> int:
        """Cells that pass the filter."""
        return len(self.order)

    def rows(self, snapshot: Snapshot) -> Ints:
        """Rows of the snapshot of the cells that pass, int64 (n_cells,), in the order of ``order``."""
        slot_block = np.repeat(np.arange(len(snapshot.table)), np.diff(self.slot_starts))
        rows: Ints = np.repeat(snapshot.block_starts[slot_block], self.slot_cells)
        rows += self.order
        return rows

    def check_size(self, limit: int | None) -> None:
        """Raise `LimitExceeded` if more than ``limit`` groups, or samples in them, have cells that pass."""
        if limit is None or max(self.n_groups, len(self.unit_group)) <= limit:
            return
        units = np.unique(self.slot_unit[self.slot_cells > 0])
        groups = np.unique(self.unit_group[units])
        for what, found in (("groups", groups), ("samples", units)):
            if len(found) > limit:
                raise LimitExceeded(what, len(found), limit, "group by fields with fewer values, or filter")

    @property
    def size_bytes(self) -> int:
        """Bytes held, nearly all of them for cells."""
        return self.codes.nbytes + self.order.nbytes

    def block_cells(self, block: int) -> npt.NDArray[np.uint16]:
        """Cells of a block that pass, ascending."""
        first, stop = self.slot_starts[block], self.slot_starts[block + 1]
        return np.sort(self.order[self.order_starts[first] : self.order_starts[stop]])


def group_cells(snapshot: Snapshot, group_by: tuple[str, ...]) -> Grouping:
    """Grouping of all cells by the values of the fields."""
    check_fields(snapshot, group_by)
    groups: dict[tuple[Any, ...], int] = {}
    codes = np.empty(snapshot.n_cells, np.uint16)
    slot_unit: list[Ints] = []
    n_slots = np.zeros(len(snapshot.table), np.int64)
    units: list[tuple[int, int, str | None]] = []
    blocks_of = np.searchsorted(snapshot.block_study, np.arange(len(snapshot.studies) + 1))
    for study in range(len(snapshot.studies)):
        labels, keys = _study_units(snapshot, study, (*group_by, "sample"))
        first = len(units)
        units += [(groups.setdefault(key[:-1], len(groups)), study, key[-1]) for key in keys]
        start = snapshot.study_starts[study]
        for block in range(blocks_of[study], blocks_of[study + 1]):
            rows = slice(snapshot.block_starts[block], snapshot.block_starts[block + 1])
            local, present = _renumber(labels[rows.start - start : rows.stop - start], len(keys))
            codes[rows] = local
            slot_unit.append(present + first)
            n_slots[block] = len(present)
    slot_starts = np.concatenate([[0], np.cumsum(n_slots)])
    grouping = Grouping(
        codes=codes,
        order=np.empty(0, np.uint16),
        order_starts=np.empty(0, np.int64),
        slot_starts=slot_starts,
        slot_unit=np.concatenate([np.empty(0, np.int64), *slot_unit]),
        slot_cells=np.empty(0, np.int64),
        unit_group=np.array([unit[0] for unit in units], np.int64),
        unit_study=np.array([unit[1] for unit in units], np.int64),
        unit_names={
            "study": Column.text([snapshot.studies[unit[1]].study for unit in units]),
            "sample": Column.text([unit[2] for unit in units]),
        },
        unit_is_named=np.array([unit[2] is not None for unit in units], np.bool_),
        group_keys={field: Column.of([key[i] for key in groups]) for i, field in enumerate(group_by)},
        n_groups=len(groups),
        blocks=np.arange(len(snapshot.table)),
    )
    return _passing(snapshot, grouping, np.ones(snapshot.n_cells, np.bool_))


def filtered(
    snapshot: Snapshot,
    grouping: Grouping,
    where: tuple[Condition, ...],
    measured: npt.NDArray[np.bool_] | None,
) -> Grouping:
    """The grouping of the cells that pass, of studies that are ``measured`` enough (None: all)."""
    check_fields(snapshot, tuple(condition.field for condition in where))
    passes = np.ones(snapshot.n_cells, np.bool_)
    for study in range(len(snapshot.studies)):
        rows = slice(snapshot.study_starts[study], snapshot.study_starts[study + 1])
        if measured is not None and not measured[study]:
            passes[rows] = False
        elif (mask := study_mask(snapshot, study, where)) is not None:
            passes[rows] = mask
    return _passing(snapshot, grouping, passes)


def without_cells(snapshot: Snapshot, grouping: Grouping, rows: Ints) -> Grouping:
    """The grouping without the cells ``rows`` (n,) of the snapshot, each named once; they need not pass."""
    block = snapshot.block_starts.searchsorted(rows, side="right") - 1
    slot = grouping.slot_starts[block] + grouping.codes[rows]
    local = rows - snapshot.block_starts[block]
    gone = []
    for first, stop, cell in zip(
        grouping.order_starts[slot].tolist(),
        grouping.order_starts[slot + 1].tolist(),
        local.tolist(),
        strict=True,
    ):
        # a slot's cells ascend
        at = first + int(grouping.order[first:stop].searchsorted(cell))
        gone.append(at if at < stop and grouping.order[at] == cell else -1)
    passes = np.array(gone, np.int64) >= 0
    slot_cells = grouping.slot_cells - np.bincount(slot[passes], minlength=len(grouping.slot_cells))
    starts = np.concatenate([[0], np.cumsum(slot_cells)])
    return replace(
        grouping,
        order=np.delete(grouping.order, np.array(gone, np.int64)[passes]),
        order_starts=starts,
        slot_cells=slot_cells,
        blocks=np.flatnonzero(np.diff(starts[grouping.slot_starts])),
    )


def _passing(snapshot: Snapshot, grouping: Grouping, passes: npt.NDArray[np.bool_]) -> Grouping:
    """The grouping of the cells that pass, bool (n_cells,)."""
    order = np.empty(np.count_nonzero(passes), np.uint16)
    starts = np.zeros(len(grouping.slot_unit) + 1, np.int64)
    sort_by_slot(grouping.codes, passes, snapshot.block_starts, grouping.slot_starts, order, starts)
    return replace(
        grouping,
        order=order,
        order_starts=starts,
        slot_cells=np.diff(starts),
        blocks=np.flatnonzero(np.diff(starts[grouping.slot_starts])),
    )


def _study_units(
    snapshot: Snapshot, study: int, fields: tuple[str, ...]
) -> tuple[Ints, list[tuple[Any, ...]]]:
    """Label of each cell (n_cells,) and, per label, the tuple of its values of the fields."""
    columns = [snapshot.column(study, field) for field in fields]
    return label_cells(columns, snapshot.studies[study].n_cells)


def label_cells(columns: Sequence[Column | None], n_cells: int) -> tuple[Ints, list[tuple[Any, ...]]]:
    """Label of each cell (n_cells,) and, per label, the tuple of its values (None: missing).

    Labels count the tuples that occur in the order of the first column's codes (or values), missing last,
    then the second's, and so on: the order of units in ``pseudobulk.bin`` too. A column None has no value.
    """
    labels = np.zeros(n_cells, np.int64)
    keys: list[tuple[Any, ...]] = [()]
    for column in columns:
        if column is None:
            keys = [(*key, None) for key in keys]
            continue
        codes, values = _coded(column)
        combined, present = _renumber(labels * len(values) + codes, len(keys) * len(values))
        labels = combined
        keys = [(*keys[p // len(values)], values[p % len(values)]) for p in present.tolist()]
    return labels, keys


def _coded(column: Column) -> tuple[Ints, list[Any]]:
    """Codes 0..n-1 of a column's values and the n values; None (missing) is the last."""
    if column.kind == "category":
        codes = column.values.astype(np.int64)
        return np.where(codes < 0, len(column.dictionary), codes), [*column.dictionary, None]
    distinct, codes = np.unique(column.values, return_inverse=True)
    values = Column(column.kind, distinct).to_list()
    if column.missing is not None and column.missing.any():
        codes = np.where(column.missing, len(values), codes)
        values.append(None)
    return codes, values


def _renumber(labels: Ints, n_labels: int) -> tuple[Ints, Ints]:
    """Labels as 0..n-1 in order, and the n labels that occur."""
    if n_labels > 4 * len(labels) + 1024:
        present, renumbered = np.unique(labels, return_inverse=True)
        return renumbered, present
    occurs = np.bincount(labels, minlength=n_labels) > 0
    present = np.flatnonzero(occurs)
    index = np.cumsum(occurs) - 1
    return index[labels], present
