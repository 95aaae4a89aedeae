"""Groupings in device memory: which cells pass, and the slot of each. Those asked for lately are kept."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from insignia_index.gpu.device import Device, Memory
from insignia_index.gpu.layout import TILE, TILE_CELLS
from insignia_index.search.grouping import Grouping
from insignia_index.snapshot import Snapshot

#: A search's grouping and a handful of filters that users switch between.
_KEPT = 8


@dataclass(frozen=True)
class GroupingOnDevice:
    """Addresses of a grouping's arrays, by the names of the fields of a `QUERY` record; what keeps them."""

    fields: dict[str, int]
    n_tiles: int
    codes: Memory
    memories: tuple[Memory, ...]
    grouping: Grouping


class GroupingCache:
    """Recent groupings on one device. Used by the device's thread."""

    def __init__(self, device: Device, snapshot: Snapshot, value_bits: int) -> None:
        self._device, self._snapshot, self._value_bits = device, snapshot, value_bits
        self._kept: OrderedDict[int, GroupingOnDevice] = OrderedDict()

    def get(self, grouping: Grouping) -> GroupingOnDevice:
        """The grouping, brought to the device if it is not there; raises `DeviceMemoryFull`."""
        key = id(grouping)  # kept, so that no other has its id meanwhile
        if key not in self._kept:
            self._kept[key] = self._bring(grouping)
        self._kept.move_to_end(key)
        while len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
        return self._kept[key]

    def clear(self) -> None:
        """Forget them all."""
        self._kept.clear()

    def _bring(self, grouping: Grouping) -> GroupingOnDevice:
        tiles = tiles_of(self._snapshot, grouping.blocks, TILE_CELLS[self._value_bits])
        slot_block = np.repeat(np.arange(len(self._snapshot.table)), np.diff(grouping.slot_starts))
        arrays: dict[str, npt.NDArray[Any]] = {
            "tiles": tiles,
            "order": grouping.order,
            "order_starts": grouping.order_starts,
            "slot_block": slot_block.astype(np.uint32),
            "slot_starts": grouping.slot_starts,
        }
        if grouping.n_cells < self._snapshot.n_cells:
            arrays["passes"] = passing_bits(self._snapshot, grouping)
        memories = {name: self._send(array) for name, array in arrays.items()}
        # filters of one grouping have the same codes
        shared = (kept.codes for kept in self._kept.values() if kept.grouping.codes is grouping.codes)
        codes = next(shared, None) or self._send(grouping.codes)
        fields = {name: memory.address for name, memory in memories.items()} | {"codes": codes.address}
        fields |= {"n_tiles": len(tiles), "n_slots": len(slot_block)}
        return GroupingOnDevice(fields, len(tiles), codes, tuple(memories.values()), grouping)

    def _send(self, array: npt.NDArray[Any]) -> Memory:
        memory = self._device.allocate(max(1, array.nbytes))
        self._device.upload(memory.address, np.ascontiguousarray(array))
        return memory


def tiles_of(snapshot: Snapshot, blocks: npt.NDArray[np.int64], tile_cells: int) -> npt.NDArray[np.void]:
    """`TILE` records (n_tiles,) of the blocks, in order."""
    n_tiles = -(-snapshot.block_cells[blocks] // tile_cells)
    tiles = np.empty(int(n_tiles.sum()), TILE)
    tiles["block"] = np.repeat(blocks, n_tiles)
    tiles["first"] = tile_cells * (np.arange(len(tiles)) - np.repeat(np.cumsum(n_tiles) - n_tiles, n_tiles))
    return tiles


def passing_bits(snapshot: Snapshot, grouping: Grouping) -> npt.NDArray[np.uint8]:
    """One bit a row of the snapshot, padded to 32: the cells that pass."""
    passes = np.zeros(-(-snapshot.n_cells // 32) * 32, np.bool_)
    n_cells = np.diff(grouping.order_starts[grouping.slot_starts])
    passes[np.repeat(snapshot.block_starts[:-1], n_cells) + grouping.order] = True
    return np.packbits(passes, bitorder="little")
