"""Pseudobulk of a snapshot: sums of attributions over units: cells of one study, sample, cell type, ..."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from insignia_index.format.pseudobulk import NAME, StudySums, add_up, read_sums
from insignia_index.format.statistics import STATISTICS, read_statistics
from insignia_index.kernels.pseudobulk import (
    add_to_groups,
    count_cells,
    group_of_units,
)
from insignia_index.search.filters import study_mask
from insignia_index.search.grouping import Grouping, label_cells
from insignia_index.snapshot import Snapshot
from insignia_model.condition import Condition
from insignia_model.errors import GroupsNotWhole, NoPseudobulk
from insignia_model.table import Column, Table

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


class Pseudobulk:
    """Units are numbered over the snapshot: study after study, within one as `label_cells` orders them.

    Raises `NoPseudobulk` if the atlas was built without. Safe for many threads.
    """

    def __init__(self, snapshot: Snapshot) -> None:
        self.fields = snapshot.record.pseudobulk
        if not self.fields:
            raise NoPseudobulk(snapshot.atlas)
        self._snapshot = snapshot
        self._labels: dict[int, tuple[npt.NDArray[np.int32], list[tuple[Any, ...]]]] = {}
        self._stored: dict[int, StudySums] = {}

    def labels(self, study: int) -> tuple[npt.NDArray[np.int32], list[tuple[Any, ...]]]:
        """Unit of each cell of a study, int32 (n_cells,), counted from the study's first, and their keys."""
        if study not in self._labels:
            columns = [self._snapshot.column(study, field) for field in self.fields]
            labels, keys = label_cells(columns, self._snapshot.studies[study].n_cells)
            self._labels[study] = labels.astype(np.int32), keys
        return self._labels[study]

    @cached_property
    def unit_starts(self) -> Ints:
        """First unit of each study, and the number of units at the end."""
        n_units = [len(self.labels(study)[1]) for study in range(len(self._snapshot.studies))]
        return np.concatenate([[0], np.cumsum(n_units, dtype=np.int64)])

    @property
    def n_units(self) -> int:
        """Units of all studies."""
        return int(self.unit_starts[-1])

    @property
    def n_genes(self) -> int:
        """Genes of the vocabulary."""
        return len(self._snapshot.genes)

    @cached_property
    def n_cells(self) -> Ints:
        """Cells of each unit, int64 (n_units,)."""
        studies = range(len(self._snapshot.studies))
        counts = [np.bincount(self.labels(s)[0], minlength=len(self.labels(s)[1])) for s in studies]
        return np.concatenate([np.empty(0, np.int64), *counts])

    @cached_property
    def units(self) -> Table:
        """study, the fields (such as sample, cell_type) and n_cells of every unit."""
        n_units = np.diff(self.unit_starts)
        names = [study.study for study in self._snapshot.studies]
        keys = [key for s in range(len(names)) for key in self.labels(s)[1]]
        columns = {
            "study": Column.text([n for n, k in zip(names, n_units.tolist(), strict=True) for _ in range(k)])
        }
        for i, field in enumerate(self.fields):
            columns[field] = Column.of([key[i] for key in keys])
        columns["n_cells"] = Column.integers(self.n_cells)
        return Table(columns)

    def study_sums(self, study: int) -> StudySums:
        """Sums of a study: of its file, checked the first time, else added up from its postings each time."""
        found = self._stored.get(study)
        if found is not None:
            return found
        snapshot, shard = self._snapshot, self._snapshot.shards[study]
        units, keys = self.labels(study)
        files = snapshot.studies[study].files
        # a study that was removed since has no file any more; its postings are still mapped
        if NAME in files.sizes and (shard.directory / NAME).exists():
            sums = read_sums(shard.directory, files, np.bincount(units, minlength=len(keys)))
            self._stored[study] = sums
            return sums
        snapshot.check_study(study)
        return add_up(shard, units, len(keys))

    def gene_totals(self) -> tuple[Floats, Floats]:
        """Of every gene over the atlas: cells that detect it, sum of its attributions; float64 (n_genes,)."""
        detecting, total = np.zeros(self.n_genes), np.zeros(self.n_genes)
        for study, shard in enumerate(self._snapshot.shards):
            if (shard.directory / STATISTICS).exists():
                found = read_statistics(shard.directory, self._snapshot.studies[study].files, shard.n_genes)
                detecting[found.genes] += found.n_cells
                total[found.genes] += found.total
            else:  # removed since; its postings are still mapped
                sums = self.study_sums(study)
                count_cells(shard.table, detecting[: shard.n_genes])
                groups = np.zeros(sums.n_units, np.int64)
                add_to_groups(sums.genes, sums.bits, sums.values, groups, total[:, None])
        return detecting, total

    def group_sums(self, unit_group: Ints, n_groups: int, check: Callable[[], None] = lambda: None) -> Floats:
        """Sums of attributions by group, float64 (n_groups, n_genes), contiguous by gene.

        ``unit_group`` int64 (n_units,): -1 takes no part. ``check`` is called between studies and may raise.
        """
        out = np.zeros((self.n_genes, n_groups))
        for study in range(len(self._snapshot.studies)):
            check()
            groups = unit_group[self.unit_starts[study] : self.unit_starts[study + 1]]
            if (groups >= 0).any():
                sums = self.study_sums(study)
                add_to_groups(sums.genes, sums.bits, sums.values, groups, out)
        return out.T

    def unit_groups(
        self, grouping: Grouping, group_by: tuple[str, ...], where: tuple[Condition, ...]
    ) -> Ints:
        """Group of every unit, int64 (n_units,), -1 where no cell passes.

        Raises `GroupsNotWhole`, naming the field, if a unit's cells are in several groups or pass in part.
        """
        found = np.full(self.n_units, -1, np.int64)
        bounds = np.searchsorted(self._snapshot.block_study, np.arange(len(self._snapshot.studies) + 1))
        for study in range(len(self._snapshot.studies)):
            labels, keys = self.labels(study)
            groups = _group_of_cells(self._snapshot, grouping, study, bounds[study], bounds[study + 1])
            first = self.unit_starts[study]
            if not group_of_units(labels, groups, found[first : first + len(keys)]):
                field = self._divided_by(study, group_by, where)
                raise GroupsNotWhole(field, self._snapshot.studies[study].study, self.fields)
        return found

    def _divided_by(self, study: int, group_by: tuple[str, ...], where: tuple[Condition, ...]) -> str:
        """The field of the question whose values divide a unit of the study."""
        units, keys = self.labels(study)
        room = np.empty(len(keys), np.int64)
        for field in group_by:
            values, _ = label_cells([self._snapshot.column(study, field)], len(units))
            if not group_of_units(units, values, room):
                return field
        for condition in where:
            mask = study_mask(self._snapshot, study, (condition,))
            if mask is not None and not group_of_units(units, mask.astype(np.int64), room):
                return condition.field
        return (*group_by, *(condition.field for condition in where))[0]


def _group_of_cells(
    snapshot: Snapshot, grouping: Grouping, study: int, first_block: int, stop_block: int
) -> Ints:
    """Group of each cell of a study, int64 (n_cells,), -1 where it does not pass."""
    found = np.full(snapshot.studies[study].n_cells, -1, np.int64)
    slots = slice(grouping.slot_starts[first_block], grouping.slot_starts[stop_block])
    blocks = np.arange(first_block, stop_block)
    block_of_slot = np.repeat(blocks, np.diff(grouping.slot_starts[first_block : stop_block + 1]))
    start = snapshot.block_starts[block_of_slot] - snapshot.study_starts[study]
    n_cells = grouping.slot_cells[slots]
    order = grouping.order[grouping.order_starts[slots.start] : grouping.order_starts[slots.stop]]
    found[np.repeat(start, n_cells) + order] = np.repeat(
        grouping.unit_group[grouping.slot_unit[slots]], n_cells
    )
    return found
