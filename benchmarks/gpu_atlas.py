"""An atlas of any number of cells in device memory: the blocks of a small one, again and again.

Every copy takes memory of its own, so that a search reads as many bytes as from an atlas of so many cells.
Each is a study, with the samples of the block's cells.
"""

from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import numpy as np

from insignia_index.cancel import CancelToken
from insignia_index.gpu.engine import DeviceEngine, OnDevice
from insignia_index.gpu.groupings import GroupingCache
from insignia_index.gpu.residency import load
from insignia_index.kernels.directory import FIRST_ROW, N_CELLS, gene_entries
from insignia_index.search.finalise import Units
from insignia_index.search.grouping import Grouping, group_cells
from insignia_index.search.plan import Query, plan_query
from insignia_index.search.scoring import Work
from insignia_index.search.tasks import Buffers, Threads
from insignia_index.snapshot import Snapshot
from insignia_model import SearchRequest
from insignia_model.table import Column

HALF_BYTES = 2


@dataclass(frozen=True)
class Replica:
    """Copies of a snapshot's blocks, as far as the device engine looks at a snapshot."""

    source: Snapshot
    snapshot: Any
    copied: np.ndarray  # block of the source of every block
    grouping: Grouping

    @classmethod
    def of(cls, source: Snapshot, n_cells: int) -> "Replica":
        """Copies of at least so many cells, all blocks of the source in turn."""
        n_blocks = 1
        cells = source.block_cells
        while cells[np.arange(n_blocks) % len(cells)].sum() < n_cells:
            n_blocks += max(1, int((n_cells - cells[np.arange(n_blocks) % len(cells)].sum()) // cells.max()))
        copied = np.arange(n_blocks) % len(cells)
        table = source.table[copied].copy()
        starts = np.concatenate([[0], np.cumsum(table[:, N_CELLS])])
        table[:, FIRST_ROW] = starts[:-1]
        snapshot = SimpleNamespace(
            record=source.record,
            table=table,
            n_cells=int(starts[-1]),
            block_cells=table[:, N_CELLS],
            block_starts=starts,
            block_study=np.arange(n_blocks),
            # each copy a shard of its own, or the device would hold one for all
            shards=[
                SimpleNamespace(directory=SimpleNamespace(name=f"{i}"), table=table[i : i + 1])
                for i in range(n_blocks)
            ],
            check_study=lambda block: source.check_study(int(source.block_study[copied[block]])),
        )
        return cls(source, snapshot, copied, _grouping(group_cells(source, ("study",)), copied))

    def first(self, n_blocks: int) -> "Replica":
        """The first copies alone."""
        return Replica.of(self.source, int(self.snapshot.block_starts[n_blocks]))

    def bring(self, engine: DeviceEngine, memory_bytes: int | None) -> OnDevice:
        """Copy to the device, as many blocks as fit."""
        owner = engine._owner

        def bring(device: Any) -> OnDevice:
            residency = load(device, self.snapshot, memory_bytes, None)
            return OnDevice(owner, residency, GroupingCache(device, self.snapshot, 16), 16)

        return owner.call(bring)

    def query(self, request: SearchRequest) -> Query:
        """The request in the terms of the copies."""
        query = plan_query(self.source, request.signature, request.aggregate)
        return replace(query, measured=np.full(len(self.copied), len(query.gene_ids)))

    def work(self, n_threads: int = 1) -> Work:
        """A search's share."""
        threads, buffers = Threads(n_threads), Buffers()
        return Work(self.snapshot, self.grouping, threads, buffers, CancelToken(), n_threads)

    def touched_bytes(self, query: Query) -> int:
        """Bytes of the containers of the query's genes."""
        n_bytes = np.zeros(len(self.source.table), np.int64)
        entries = np.empty(1, np.uint64)
        for block in range(len(self.source.table)):
            for gene in query.gene_ids.tolist():
                row = self.source.table[block : block + 1]
                n_bytes[block] += gene_entries(row, gene, HALF_BYTES, entries)
        return int(n_bytes[self.copied].sum())


def complete_search(on_device: OnDevice, replica: Replica, work: Work, request: SearchRequest) -> Units:
    """Scores, top, percentile, tables of studies and samples: all but the metadata of the best cells."""
    query = replica.query(request)
    room = np.empty(0, np.float32)  # every block is on the device
    statistics, found = on_device.answer(work, query, None, room, request.hits, request.k, False)
    units = Units(replica.grouping, statistics, found.slot_hits, query.measured, request.min_cells)
    units.group_table(None)
    units.sample_table()
    return units


def _grouping(grouping: Grouping, copied: np.ndarray) -> Grouping:
    """The grouping of the copies: every slot of a copy is a sample of the copy's study."""
    starts, cells = grouping.slot_starts, grouping.slot_cells
    slots = [np.arange(starts[block], starts[block + 1]) for block in copied]
    order_starts = grouping.order_starts[starts]
    slot_starts = np.concatenate([[0], np.cumsum([len(part) for part in slots])])
    slot_cells = cells[np.concatenate(slots)]
    study = np.repeat(np.arange(len(copied)), np.diff(slot_starts))
    order = np.concatenate([grouping.order[order_starts[b] : order_starts[b + 1]] for b in copied])
    # all cells pass, so that codes lie in the order of the rows as `order` does in that of the blocks
    codes = np.concatenate([grouping.codes[order_starts[b] : order_starts[b + 1]] for b in copied])
    names = Column.text([f"study {i}" for i in range(len(copied))])
    return replace(
        grouping,
        codes=codes,
        order=order,
        order_starts=np.concatenate([[0], np.cumsum(slot_cells)]),
        slot_starts=slot_starts,
        slot_unit=np.arange(len(study)),
        slot_cells=slot_cells,
        unit_group=study,
        unit_study=study,
        unit_names={
            "study": names.take(study),
            "sample": Column.text([f"sample {i}" for i in range(len(study))]),
        },
        unit_is_named=np.ones(len(study), np.bool_),
        group_keys={"study": names},
        n_groups=len(copied),
        blocks=np.arange(len(copied)),
    )
