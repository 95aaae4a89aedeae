"""Blocks in device memory: their bytes as they lie in the file, and marks to find a tile's part of each.

What goes to the device was checked first, all of it: kernels trust ids, counts and offsets.
"""

from __future__ import annotations

import ctypes
import logging
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from insignia_index.format.layout import BITMAP, KIND_SHIFT, LIST, aligned
from insignia_index.gpu.device import Device, DeviceMemoryFull, Memory
from insignia_index.gpu.layout import BLOCK, GROUP_WORDS, KIND, TILE_CELLS
from insignia_index.kernels.directory import (
    ENTRIES,
    FIRST_ROW,
    N_CELLS,
    N_ENTRIES,
    N_WORDS,
    PAYLOAD,
    PAYLOAD_BYTES,
    RANKS,
    WORDS,
)
from insignia_index.snapshot import Snapshot
from insignia_model.errors import AtlasCorrupt

log = logging.getLogger(__name__)

#: What is left free of a device unless a budget is given: for whatever else it does, and by cell for scores
#: and groupings of a few searches.
HEADROOM_BYTES, HEADROOM_BYTES_PER_CELL = 512 << 20, 32


@dataclass(frozen=True)
class _Held:
    """A block in device memory; ``record`` holds its addresses, all but its first row."""

    memory: Memory
    record: npt.NDArray[np.void]


@dataclass
class Residency:
    """Which blocks of a snapshot are on the device.

    ``table``: a `BLOCK` record a block (None: there was no room, and no block is here);
    ``is_resident`` bool (n_blocks,).
    """

    snapshot: Snapshot
    table: Memory | None
    is_resident: npt.NDArray[np.bool_]
    n_bytes: int
    _held: dict[tuple[str, int], _Held] = field(default_factory=dict)

    @property
    def n_cells(self) -> int:
        """Cells on the device."""
        return int(self.snapshot.block_cells[self.is_resident].sum())


def load(
    device: Device,
    snapshot: Snapshot,
    budget_bytes: int | None,
    earlier: Residency | None,
    reserved_bytes: int = 0,
) -> Residency:
    """Bring blocks to the device, in their order, while they fit; those that ``earlier`` holds are there.

    Without a budget all that is free may be used, but for ``reserved_bytes`` and room to work in.

    A study that is damaged stays where it is: whoever asks for a damaged gene is told.
    """
    if budget_bytes is None:
        reserve = reserved_bytes + HEADROOM_BYTES + HEADROOM_BYTES_PER_CELL * snapshot.n_cells
        budget_bytes = max(0, device.free_bytes() - reserve) + (earlier.n_bytes if earlier else 0)
    value_bits = snapshot.record.value_bits
    table = np.zeros(len(snapshot.table), BLOCK)
    try:
        memory = device.allocate(max(1, table.nbytes))
    except DeviceMemoryFull:
        log.warning("%s has no memory left: the processor searches", device.name)
        return Residency(snapshot, None, np.zeros(len(table), np.bool_), 0)
    table["n_cells"], table["first_row"] = snapshot.table[:, N_CELLS], snapshot.table[:, FIRST_ROW]
    before = earlier._held if earlier else {}
    held: dict[tuple[str, int], _Held] = {}
    # while searches of the earlier revision run, its blocks take their memory
    left = budget_bytes - sum(block.memory.n_bytes for block in before.values())
    for block, key in enumerate(_keys(snapshot)):
        found = before.get(key)
        if found is None and (plan := _Plan(snapshot.table[block], value_bits)).n_bytes <= left:
            found = _bring(device, snapshot, block, plan)
            left -= found.memory.n_bytes if found else 0
        if found is not None:
            held[key] = found
            for name in (
                "words",
                "ranks",
                "entries",
                "payload",
                "mark_starts",
                "marks",
                "n_words",
                "n_entries",
            ):
                table[name][block] = found.record[name]
    device.upload(memory.address, table)
    n_bytes = sum(block.memory.n_bytes for block in held.values())
    residency = Residency(snapshot, memory, table["words"] != 0, n_bytes, held)
    log.info(
        "%s holds %d of %d cells, %.1f GB",
        device.name, residency.n_cells, snapshot.n_cells, n_bytes / 1e9,
    )  # fmt: skip
    return residency


def _keys(snapshot: Snapshot) -> list[tuple[str, int]]:
    """Shard, which never changes, and number within it, of every block."""
    return [(shard.directory.name, i) for shard in snapshot.shards for i in range(len(shard.table))]


def _bring(device: Device, snapshot: Snapshot, block: int, plan: _Plan) -> _Held | None:
    """Check a block's study, copy the block, mark it; None if it is damaged or does not fit after all."""
    try:
        snapshot.check_study(int(snapshot.block_study[block]))
        return plan.upload(device)
    except AtlasCorrupt as error:
        log.warning("left to the processor: %s", error)
    except DeviceMemoryFull:
        log.warning("block %d did not fit into the memory of %s", block, device.name)
    return None


class _Plan:
    """Where the parts of a block, a row of the block table, go in one piece of device memory."""

    def __init__(self, row: npt.NDArray[np.int64], value_bits: int) -> None:
        self._row, self._value_bits = row, value_bits
        n_cells, n_words, n_entries = int(row[N_CELLS]), int(row[N_WORDS]), int(row[N_ENTRIES])
        entries = _memory(int(row[ENTRIES]), 8 * n_entries).view("<u8")
        kinds = (entries >> KIND_SHIFT) & np.uint64(3)
        tile = TILE_CELLS[value_bits]
        n_tiles = -(-n_cells // tile) if n_cells > tile else 0
        n_groups = -(-n_cells // (32 * GROUP_WORDS))
        n_marks = np.where(kinds == LIST, n_tiles, np.where(kinds == BITMAP, n_groups, 0))
        ends = np.cumsum(n_marks)
        #: where each container's marks begin
        self.mark_starts = (ends - n_marks).astype("<u4")
        span = int(row[PAYLOAD] + row[PAYLOAD_BYTES] - row[ENTRIES])
        # 64 as in the file: entries, and the payload behind them, keep their alignment
        sizes = (span, 8 * n_words, 4 * n_words, self.mark_starts.nbytes, 2 * int(n_marks.sum()))
        starts = np.concatenate([[0], np.cumsum([aligned(size) for size in sizes])]).tolist()
        self._entries, self._words, self._ranks, self._mark_starts, self._marks, self.n_bytes = starts
        self._span_bytes = span

    def upload(self, device: Device) -> _Held:
        """Copy and mark."""
        memory = device.allocate(max(1, self.n_bytes))
        row, base = self._row, memory.address
        n_words = int(row[N_WORDS])
        device.upload(base + self._entries, _memory(int(row[ENTRIES]), self._span_bytes))
        device.upload(base + self._words, _memory(int(row[WORDS]), 8 * n_words))
        device.upload(base + self._ranks, _memory(int(row[RANKS]), 4 * n_words))
        device.upload(base + self._mark_starts, self.mark_starts)
        record = np.zeros(1, BLOCK)
        record["entries"], record["payload"] = base, base + int(row[PAYLOAD] - row[ENTRIES])
        record["words"], record["ranks"] = base + self._words, base + self._ranks
        record["mark_starts"], record["marks"] = base + self._mark_starts, base + self._marks
        record["n_words"], record["n_entries"], record["n_cells"] = n_words, row[N_ENTRIES], row[N_CELLS]
        mark_block(device, record, self._value_bits)
        return _Held(memory, record[0])


def mark_block(device: Device, record: npt.NDArray[np.void], value_bits: int) -> None:
    """Fill the marks of a block whose `BLOCK` record (1,) is given."""
    about = device.allocate(BLOCK.itemsize)
    device.upload(about.address, record)
    n_blocks = min(device.n_blocks, -(-int(record["n_entries"][0]) // device.n_threads))
    device.launch(f"mark_{KIND[value_bits]}", (n_blocks, 1), about.address)
    # `about` goes back to the pool, which hands it out again only for what comes after the kernel


def _memory(address: int, n_bytes: int) -> npt.NDArray[Any]:
    """Bytes of the mapped shard, which the snapshot keeps."""
    if not n_bytes:
        return np.empty(0, np.uint8)
    return np.ctypeslib.as_array((ctypes.c_uint8 * n_bytes).from_address(address))
