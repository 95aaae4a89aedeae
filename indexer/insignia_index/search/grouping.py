"""Groups, replicate units, slots.

A *unit* is the part of a sample that lies in one group: (group, study, sample). A *slot* is the part of a
unit that lies in one block. Kernels write statistics per slot: every slot belongs to one block, every
block to one task, so that threads never meet and results do not depend on their number.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from insignia_index.kernels.collect import count_codes
from insignia_index.search.filters import check_fields, study_mask
from insignia_index.snapshot import Snapshot
from insignia_model.condition import Condition
from insignia_model.table import Column

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Grouping:
    """Cells of a snapshot by slot, slots by unit, units by group.

    ``codes`` int32 (n_cells,): slot of a cell within its block, -1 if it is filtered out.
    ``slot_starts`` int64 (n_blocks + 1,), ``slot_unit`` and ``slot_cells`` int64 (n_slots,).
    ``unit_group``, ``unit_study`` int64 (n_units,); ``unit_names``: columns study and sample (n_units).
    ``group_keys``: a column (n_groups) per ``group_by`` field. ``blocks``: those with a cell that passes.
    """

    codes: npt.NDArray[np.int32]
    slot_starts: Ints
    slot_unit: Ints
    slot_cells: Ints
    unit_group: Ints
    unit_study: Ints
    unit_names: dict[str, Column]
    group_keys: dict[str, Column]
    n_groups: int
    blocks: Ints

    @property
    def unit_is_named(self) -> npt.NDArray[np.bool_]:
        """Units whose cells say their sample, bool (n_units,)."""
        return np.asarray(self.unit_names["sample"].values >= 0)

    @property
    def n_cells(self) -> int:
        """Cells that pass the filter."""
        return int(self.slot_cells.sum())

    @property
    def size_bytes(self) -> int:
        """Bytes held, nearly all of them codes."""
        return self.codes.nbytes


def group_cells(snapshot: Snapshot, group_by: tuple[str, ...]) -> Grouping:
    """Grouping of all cells by the values of the fields."""
    check_fields(snapshot, group_by)
    groups: dict[tuple[Any, ...], int] = {}
    codes = np.empty(snapshot.n_cells, np.int32)
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
        slot_starts=slot_starts,
        slot_unit=np.concatenate([np.empty(0, np.int64), *slot_unit]),
        slot_cells=np.empty(0, np.int64),
        unit_group=np.array([unit[0] for unit in units], np.int64),
        unit_study=np.array([unit[1] for unit in units], np.int64),
        unit_names={
            "study": Column.text([snapshot.studies[unit[1]].study for unit in units]),
            "sample": Column.text([unit[2] for unit in units]),
        },
        group_keys={field: Column.of([key[i] for key in groups]) for i, field in enumerate(group_by)},
        n_groups=len(groups),
        blocks=np.arange(len(snapshot.table)),
    )
    return _counted(snapshot, grouping)


def filtered(
    snapshot: Snapshot, grouping: Grouping, where: tuple[Condition, ...], measured: npt.NDArray[np.bool_]
) -> Grouping:
    """The grouping of the cells that pass, of the studies that are ``measured`` enough."""
    check_fields(snapshot, tuple(condition.field for condition in where))
    if not where and measured.all():
        return grouping
    codes = grouping.codes.copy()
    for study in range(len(snapshot.studies)):
        rows = codes[snapshot.study_starts[study] : snapshot.study_starts[study + 1]]
        if not measured[study]:
            rows[:] = -1
        elif (mask := study_mask(snapshot, study, where)) is not None:
            rows[~mask] = -1
    return _counted(snapshot, replace(grouping, codes=codes))


def _counted(snapshot: Snapshot, grouping: Grouping) -> Grouping:
    starts, slots = snapshot.block_starts, grouping.slot_starts
    counts = [
        count_codes(grouping.codes[starts[b] : starts[b + 1]], slots[b + 1] - slots[b])
        for b in range(len(snapshot.table))
    ]
    used = np.array([c.any() for c in counts], np.bool_)
    return replace(
        grouping,
        slot_cells=np.concatenate([np.empty(0, np.int64), *counts]),
        blocks=np.flatnonzero(used),
    )


def _study_units(
    snapshot: Snapshot, study: int, fields: tuple[str, ...]
) -> tuple[Ints, list[tuple[Any, ...]]]:
    """Label of each cell (n_cells,) and, per label, the tuple of its values of the fields."""
    n_cells = snapshot.studies[study].n_cells
    labels = np.zeros(n_cells, np.int64)
    keys: list[tuple[Any, ...]] = [()]
    for field in fields:
        column = snapshot.column(study, field)
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
