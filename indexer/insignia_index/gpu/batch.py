"""Several queries of one snapshot in one go: every kernel is launched once for all of them.

First the scores, the statistics of slots and the order statistics; then, with cut-offs that are computed
here, by the same arithmetic as on the processor, the hits of slots and the best cells.
"""

from __future__ import annotations

import math
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from insignia_index.cancel import CancelToken
from insignia_index.gpu.device import Device
from insignia_index.gpu.groupings import GroupingCache, GroupingOnDevice
from insignia_index.gpu.layout import (
    DIGITS,
    KIND,
    LARGE_SLOT,
    QUERY,
    TARGET,
    TARGETS,
    TIES_ALL,
    TIES_FIRST,
    TIES_NONE,
    n_passes,
    score_of_key,
)
from insignia_index.gpu.residency import Residency
from insignia_index.gpu.room import Room
from insignia_index.kernels.moments import CHAINS
from insignia_index.search.grouping import Grouping
from insignia_index.search.plan import Query
from insignia_index.search.scoring import score_dtype
from insignia_index.search.select import Selection, known_cutoff, quantile_of
from insignia_model.hits import HitRule

Answer = tuple[npt.NDArray[np.float64], Selection]


@dataclass
class Ask:
    """One query. Its grouping has a cell that passes.

    ``scores`` (n_cells of the atlas,) has the scores of blocks that are not on the device, and gets all of
    them if the caller ``wants_scores``.
    """

    residency: Residency
    groupings: GroupingCache
    grouping: Grouping
    query: Query
    rule: HitRule
    k: int
    scores: npt.NDArray[Any]
    wants_scores: bool
    cancel: CancelToken
    future: Future[Answer] = field(default_factory=Future)

    @property
    def n_best(self) -> int:
        """How many of the best cells are wanted."""
        return min(self.k, self.grouping.n_cells)

    def ranks(self) -> list[int]:
        """Ranks, from the lowest score, of the order statistics that the top and the rule need."""
        n = self.grouping.n_cells
        ranks = [n - self.n_best] if self.n_best else []
        if self.rule.kind == "top":
            ranks.append(n - min(int(self.rule.value), n))
        elif self.rule.kind in ("percentile", "quantile"):
            lower = math.floor(quantile_of(self.rule) * (n - 1))
            ranks += [lower, min(lower + 1, n - 1)]
        return ranks


class Batch:
    """The device's side of several queries of one snapshot."""

    def __init__(self, device: Device, asks: list[Ask]) -> None:
        self._device, self._asks = device, asks
        self._snapshot = asks[0].residency.snapshot
        self._value_bits = self._snapshot.record.value_bits
        self._kind = KIND[self._value_bits]
        self._dtype = np.dtype(score_dtype(self._value_bits))
        self._on_device: list[GroupingOnDevice] = [ask.groupings.get(ask.grouping) for ask in asks]
        self._queries = np.zeros(len(asks), QUERY)
        self._targets = np.zeros((len(asks), TARGETS), TARGET)
        self._room = self._arrange()

    def _arrange(self) -> Room:
        """Device memory of all queries, and their records."""
        room, n, size = Room(), len(self._asks), self._dtype.itemsize
        n_slots = [len(ask.grouping.slot_unit) for ask in self._asks]
        n_genes = [len(ask.query.gene_ids) for ask in self._asks]
        n_best = [ask.n_best for ask in self._asks]
        n_tiles = [here.n_tiles for here in self._on_device]
        counts_bytes = 4 * n_passes(self._value_bits) * TARGETS * DIGITS
        room.add("histograms", [counts_bytes] * n, zeros=True)
        room.add("slot_hits", [8 * slots for slots in n_slots], zeros=True)
        room.add("counters", [8] * n, zeros=True)
        room.add("queries", [QUERY.itemsize] * n)
        room.add("targets", [TARGETS * TARGET.itemsize] * n)
        room.add("genes", [8 * genes for genes in n_genes])
        room.add("weights", [size * genes for genes in n_genes])
        room.add("scores", [size * self._snapshot.n_cells] * n)
        room.add("statistics", [24 * slots for slots in n_slots])
        room.add("top_rows", [8 * best for best in n_best])
        room.add("top_scores", [size * best for best in n_best])
        room.add("tile_ties", [8 * tiles for tiles in n_tiles])
        room.allocate(self._device)
        for i, (ask, here) in enumerate(zip(self._asks, self._on_device, strict=True)):
            self._queries[i]["blocks"] = ask.residency.table.address if ask.residency.table else 0
            for name, value in here.fields.items():
                self._queries[i][name] = value
            self._queries[i]["n_genes"] = n_genes[i]
            self._queries[i]["divisor"] = ask.query.divisor
            for name in room.names & set(QUERY.names or ()):
                self._queries[i][name] = room.address(name, i)
            ranks = ask.ranks()
            self._queries[i]["n_targets"] = len(ranks)
            self._targets[i]["rank"][: len(ranks)] = ranks
        return room

    def run(self) -> list[Answer]:
        """Answers, in the order of the questions."""
        self._send()
        self._score()
        statistics = self._fetch("statistics", np.dtype(np.float64))
        self._device.download(self._room.start("targets"), self._targets)
        cutoffs = [self._decide(i, part.reshape(-1, 3)) for i, part in enumerate(statistics)]
        self._finish()
        hits = self._fetch("slot_hits", np.dtype(np.int64))
        rows, scores = self._fetch("top_rows", np.dtype(np.int64)), self._fetch("top_scores", self._dtype)
        answers = []
        for i, ask in enumerate(self._asks):
            order = np.lexsort((rows[i], -scores[i]))  # the device puts them down in no order
            found = Selection(cutoffs[i], hits[i], int(hits[i].sum()), rows[i][order], scores[i][order])
            answers.append((statistics[i].reshape(-1, 3), found))
            if ask.wants_scores:
                self._device.download(self._room.address("scores", i), ask.scores)
        return answers

    def _send(self) -> None:
        device, room = self._device, self._room
        room.clear(device)
        device.upload(room.start("queries"), self._queries)
        device.upload(room.start("targets"), self._targets)
        for i, ask in enumerate(self._asks):
            device.upload(room.address("genes", i), ask.query.gene_ids)
            device.upload(room.address("weights", i), ask.query.weights.astype(self._dtype))
            for first, stop in _elsewhere(ask):
                start = room.address("scores", i) + first * self._dtype.itemsize
                device.upload(start, ask.scores[first:stop])

    def _launch(self, kernel: str, n_blocks: int, number: int = 0) -> None:
        grid = (n_blocks, len(self._asks))
        self._device.launch(kernel, grid, self._room.start("queries"), number)

    @property
    def _n_tiles(self) -> int:
        return max(here.n_tiles for here in self._on_device)

    def _score(self) -> None:
        self._launch(f"score_{self._kind}", self._n_tiles)
        if self._queries["n_targets"].any():
            for step in range(n_passes(self._value_bits)):
                if step:
                    self._launch(f"digits_{self._kind}", min(self._n_tiles, self._device.n_blocks), step)
                self._launch(f"narrow_{self._kind}", TARGETS, step)
        n_slots = max(len(ask.grouping.slot_unit) for ask in self._asks)
        self._launch(f"statistics_{self._kind}", -(-CHAINS * n_slots // self._device.n_threads))
        if any((ask.grouping.slot_cells > LARGE_SLOT).any() for ask in self._asks):
            self._launch(f"large_{self._kind}", min(n_slots, self._device.n_blocks))

    def _decide(self, i: int, statistics: npt.NDArray[np.float64]) -> float:
        """Fill in the query's cut-off and what becomes of ties; returns the cut-off."""
        ask, record, targets = self._asks[i], self._queries[i], self._targets[i].tolist()
        n = ask.grouping.n_cells
        record["top_mode"], record["hit_mode"] = TIES_NONE, TIES_NONE
        if ask.n_best:
            record["top_key"] = targets[0][0]
            above, record["top_mode"], ties = _ties(targets.pop(0), ask.n_best, n)
            record["top_above"], record["top_ties"] = above, ties
        known = known_cutoff(ask.rule, statistics, n)
        if known is not None:
            cutoff = float(known)
        elif ask.rule.kind == "top":
            cutoff = score_of_key(targets[0][0], self._value_bits)
            _, record["hit_mode"], record["hit_ties"] = _ties(targets[0], min(int(ask.rule.value), n), n)
        else:
            position = quantile_of(ask.rule) * (n - 1)
            lower, upper = (score_of_key(target[0], self._value_bits) for target in targets[:2])
            cutoff = _between(lower, upper, position - math.floor(position))
        record["cutoff"] = cutoff
        return cutoff

    def _finish(self) -> None:
        self._device.upload(self._room.start("queries"), self._queries)
        n_blocks = min(self._n_tiles, self._device.n_blocks)
        if (self._queries["hit_mode"] == TIES_FIRST).any() or (self._queries["top_mode"] == TIES_FIRST).any():
            self._launch(f"ties_{self._kind}", n_blocks)
            self._launch("scan_ties", 2)
        self._launch(f"finish_{self._kind}", n_blocks)

    def _fetch(self, name: str, dtype: np.dtype[Any]) -> list[npt.NDArray[Any]]:
        """One array a query."""
        parts = [np.empty(size // dtype.itemsize, dtype) for size in self._room.sizes(name)]
        for i, part in enumerate(parts):
            if len(part):
                self._device.download(self._room.address(name, i), part)
        return parts


def _ties(target: tuple[int, int, int], wanted: int, n: int) -> tuple[int, int, int]:
    """Cells above the score of the ``wanted``-th best of ``n``; which of those that have it, how many."""
    _, rank, count = target
    # so many lie below: the rank from the lowest, without those of the same score
    above = n - (n - wanted - rank) - count
    ties = wanted - above
    return above, TIES_ALL if ties == count else TIES_FIRST, ties


def _between(lower: float, upper: float, share: float) -> float:
    """As `kernels.collect` and numpy interpolate: from the nearer end."""
    step = upper - lower
    return lower + step * share if share < 0.5 else upper - step * (1 - share)


def _elsewhere(ask: Ask) -> list[tuple[int, int]]:
    """Runs of rows of the grouping's blocks that are not on the device."""
    starts, blocks = ask.residency.snapshot.block_starts, ask.grouping.blocks
    blocks = blocks[~ask.residency.is_resident[blocks]]
    ends = np.flatnonzero(np.diff(blocks) > 1)
    firsts = blocks[np.concatenate([[0], ends + 1])] if len(blocks) else blocks
    lasts = blocks[np.concatenate([ends, [len(blocks) - 1]])] if len(blocks) else blocks
    return list(zip(starts[firsts].tolist(), starts[lasts + 1].tolist(), strict=True))
