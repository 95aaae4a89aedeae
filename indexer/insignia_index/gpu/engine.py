"""The sparse engine on a device: what `search.engine` asks instead of the processor's kernels."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import TimeoutError as NotYet
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from insignia_index.gpu.batch import Answer, Ask
from insignia_index.gpu.device import Device, DeviceMemoryFull
from insignia_index.gpu.groupings import GroupingCache
from insignia_index.gpu.owner import Owner
from insignia_index.gpu.residency import Residency, load
from insignia_index.search.gene_cache import Postings
from insignia_index.search.plan import Query
from insignia_index.search.scoring import Work, score_all
from insignia_index.search.select import select
from insignia_index.snapshot import Snapshot
from insignia_model.hits import HitRule

log = logging.getLogger(__name__)

#: Seconds between two looks whether the caller still waits.
_CANCEL_S = 0.02


class DeviceEngine:
    """A device and its thread, for as long as an atlas is open."""

    def __init__(self, make: Callable[[], Device], memory_bytes: int | None, number: int = 0) -> None:
        self.number = number
        self._owner = Owner(make)
        self._memory_bytes = memory_bytes

    def open(self, snapshot: Snapshot, earlier: OnDevice | None, reserved_bytes: int = 0) -> OnDevice:
        """Bring a snapshot's blocks to the device, those that are not there with ``earlier``.

        ``reserved_bytes`` are left for others, unless a budget was given.
        """
        before = earlier.residency if earlier else None
        value_bits = snapshot.record.value_bits

        def bring(device: Device) -> OnDevice:
            residency = load(device, snapshot, self._memory_bytes, before, reserved_bytes)
            groupings = GroupingCache(device, snapshot, value_bits)
            return OnDevice(self._owner, residency, groupings, value_bits)

        return self._owner.call(bring)

    def close(self) -> None:
        """End the thread."""
        self._owner.close()


class OnDevice:
    """One snapshot on a device. Safe for many threads."""

    def __init__(self, owner: Owner, residency: Residency, groupings: GroupingCache, value_bits: int) -> None:
        self.name = owner.name
        self.residency = residency
        self.n_cells = residency.n_cells
        self._owner, self._groupings, self._value_bits = owner, groupings, value_bits

    def answer(
        self, work: Work, query: Query, postings: Postings, scores: npt.NDArray[Any],
        rule: HitRule, k: int, wants_scores: bool,
    ) -> Answer:  # fmt: skip
        """Statistics of the slots, as `score_all` gives them, and the selection, as `select` does.

        Blocks that are not on the device are scored here. ``scores`` (n_cells,) is room to work in; it has
        the scores of the grouping's blocks in the end if ``wants_scores``.
        """
        blocks = work.grouping.blocks
        elsewhere = blocks[~self.residency.is_resident[blocks]]
        if len(elsewhere) == len(blocks):
            return self._on_processor(work, query, postings, scores, rule, k)
        if len(elsewhere):
            rest = replace(work, grouping=replace(work.grouping, blocks=elsewhere))
            score_all(rest, query, postings, self._value_bits, scores)
        ask = Ask(
            self.residency, self._groupings, work.grouping, query, rule, k, scores, wants_scores, work.cancel
        )
        self._owner.ask(ask)
        try:
            return _wait(ask)
        except DeviceMemoryFull as error:
            log.warning("%s has no room for a search (%s); the processor answers", self.name, error)
            return self._on_processor(work, query, postings, scores, rule, k)

    def _on_processor(
        self, work: Work, query: Query, postings: Postings, scores: npt.NDArray[Any], rule: HitRule, k: int
    ) -> Answer:
        statistics = score_all(work, query, postings, self._value_bits, scores)
        return statistics, select(work, scores, statistics, rule, k)


def _wait(ask: Ask) -> tuple[npt.NDArray[np.float64], Any]:
    """The answer; gives up, and takes the question back unless it has begun, when the caller does."""
    while True:
        try:
            return ask.future.result(_CANCEL_S)
        except NotYet:
            if ask.future.done():  # it came just now, or is such an error itself
                return ask.future.result()
        try:
            ask.cancel.check()
        except BaseException:
            ask.future.cancel()
            raise
