"""What a snapshot needs to answer by FAISS: indexes in memory, rows in mapped files."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from insignia_index.dense.codec import Codec
from insignia_index.dense.device import DeviceIndex, device_bytes, gpu_backend
from insignia_index.dense.files import CODEC, LISTS, checked, folder, study_file
from insignia_index.dense.record import FaissRecord, StudyFaiss
from insignia_index.dense.resident import Panel, Part, Passing, Projected
from insignia_index.dense.rows import Rows
from insignia_index.kernels.rows import ROW_COLUMNS, add_heads, score_narrow, score_wide
from insignia_index.snapshot import Snapshot
from insignia_model.errors import AtlasCorrupt

Ints = npt.NDArray[np.int64]

#: Candidates that are scored exactly, for each cell that is asked for, once their heads have been looked at.
_FINALISTS_A_CELL = 4
_ROOM = 1 << 16


@dataclass(frozen=True, slots=True)
class Found:
    """Rows int64 (n,) and exact scores (n,), best first; ``n_candidates``: cells that FAISS proposed."""

    rows: Ints
    scores: npt.NDArray[Any]
    n_candidates: int


class Dense:
    """The dense files of a snapshot. Files are read and checked at the first use; safe for many threads.

    ``device``: number of the GPU that is to scan the projected indexes, if FAISS can use it and they fit.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        record: FaissRecord,
        studies: Sequence[StudyFaiss | None],
        directory: Path | None = None,
        device: int | None = None,
    ) -> None:
        self.record = record
        self._snapshot = snapshot
        self._studies = studies
        self._directory = directory or folder(snapshot.atlas, record.version)
        self._loading = threading.Lock()
        self._loaded: _Loaded | None = None
        self._damage: AtlasCorrupt | None = None
        self._device = device

    @property
    def device_bytes(self) -> int:
        """Memory that the projected indexes take on a device; 0 if they are to stay on the processor."""
        kinds = zip(self._snapshot.studies, self._studies, strict=True)
        n_cells = sum(s.n_cells for s, faiss in kinds if faiss is not None and faiss.kind == "projected")
        if self._device is None or not n_cells:
            return 0
        return device_bytes(n_cells, self.record.n_dimensions)

    @property
    def missing(self) -> list[str]:
        """Studies that have no FAISS files."""
        known = zip(self._snapshot.studies, self._studies, strict=True)
        return [study.study for study, faiss in known if faiss is None]

    @property
    def is_exact(self) -> bool:
        """Every study is a panel, searched in the space of its genes."""
        return all(study is not None and study.kind == "exact" for study in self._studies)

    def load(self) -> _Loaded:
        """Indexes and rows; raises `AtlasCorrupt` and `EngineUnavailable`."""
        with self._loading:
            if self._damage is not None:  # remembered: to read and check all files takes long
                raise self._damage.with_traceback(None)
            if self._loaded is None:
                try:
                    loaded = _Loaded(self._snapshot, self.record, self._studies, self._directory)
                except AtlasCorrupt as error:
                    self._damage = error
                    raise
                if self._device is not None and loaded.projected is not None:
                    backend = gpu_backend(self._device)
                    if backend is not None:
                        loaded.on(DeviceIndex(loaded.projected, backend))
                self._loaded = loaded
            return self._loaded

    def has_row(self, row: int) -> bool:
        """Whether a cell is of a projected study, and the files have been read."""
        loaded = self._loaded
        return loaded is not None and self._study_of(row) in loaded.rows

    def _study_of(self, row: int) -> int:
        return int(np.searchsorted(self._snapshot.study_starts, row, side="right")) - 1

    def profile(self, row: int) -> tuple[Ints, npt.NDArray[np.float64]]:
        """Genes int64 (n,) ascending and attributions float64 of a cell of a projected study."""
        study = self._study_of(row)
        genes, values = self.load().rows[study].profile(row - int(self._snapshot.study_starts[study]))
        return genes, values.astype(np.float64)

    def find(
        self,
        genes: Ints,
        weights: npt.NDArray[np.float64],
        k: int,
        n_candidates: int,
        passing: Passing | None = None,
        by_heads: bool = False,
    ) -> Found:
        """The best ``k`` of some ``n_candidates`` cells of the projected studies, and of all of the panels.

        ``weights`` float64 (n,) of ``genes`` int64 (n,) ascending; ``passing`` bool (n_cells,). ``by_heads``:
        the candidates' heads choose those that are scored exactly, which suits queries that are like cells.
        """
        return self.load().find(genes, weights, k, n_candidates, passing, by_heads)


class _Loaded:
    def __init__(
        self, snapshot: Snapshot, record: FaissRecord, studies: Sequence[StudyFaiss | None], directory: Path
    ) -> None:
        self._snapshot = snapshot
        self._row_tables = np.zeros((len(studies), ROW_COLUMNS), np.int64)
        self._wide = np.zeros(len(studies), np.bool_)
        self._is_projected = np.zeros(len(studies), np.bool_)
        self.rows: dict[int, Rows] = {}  # keeps the mappings
        projected: list[Part] = []
        panels: dict[bytes, list[Part]] = {}
        sets, which = snapshot.measured_sets
        for i, faiss in enumerate(studies):
            if faiss is None:
                continue
            shard, n = snapshot.studies[i].shard, snapshot.studies[i].n_cells
            path = checked(study_file(directory, shard, "index"), faiss.files["index"])
            part = Part(path, int(snapshot.study_starts[i]), n)
            if faiss.kind == "exact":
                panels.setdefault(sets[which[i]].tobytes(), []).append(part)
                continue
            path = checked(study_file(directory, shard, "rows"), faiss.files["rows"])
            rows = Rows(path, faiss.files["rows"].size, n)
            self._row_tables[i], self._wide[i], self._is_projected[i] = rows.table, rows.wide, True
            self.rows[i] = rows
            projected.append(part)
        self.panels = [
            Panel(np.flatnonzero(np.frombuffer(genes, np.bool_)), parts) for genes, parts in panels.items()
        ]
        self.projected: Projected | None = None
        self._scan: Projected | DeviceIndex | None = None
        if projected:
            codec = Codec.load(checked(directory / CODEC, record.files["codec"]))
            lists = checked(directory / LISTS, record.files["lists"]) if "lists" in record.files else None
            self._scan = self.projected = Projected(codec, lists, projected)

    def on(self, index: DeviceIndex) -> None:
        """Let a device scan the projections."""
        self._scan = index

    def find(
        self, genes: Ints, weights: npt.NDArray[np.float64], k: int, n_candidates: int,
        passing: Passing | None, by_heads: bool,
    ) -> Found:  # fmt: skip
        room = np.zeros(max(_ROOM, len(self._snapshot.genes)))
        room[genes] = weights
        found = (
            [self._projected(genes, weights, room, k, n_candidates, passing, by_heads)]
            if self.projected
            else []
        )
        for panel in self.panels:
            rows = panel.best(room, k, passing)
            known = room[panel.genes]
            scores = panel.values(rows).astype(np.float64) @ known
            found.append(Found(rows, scores.astype(self._dtype), len(rows)))
        rows = np.concatenate([np.empty(0, np.int64), *(part.rows for part in found)])
        scores = np.concatenate([np.empty(0, self._dtype), *(part.scores for part in found)])
        best = np.lexsort((rows, -scores))[:k]  # ties go to the smaller row
        return Found(rows[best], scores[best], sum(part.n_candidates for part in found))

    @property
    def _dtype(self) -> type[np.floating[Any]]:
        return np.float32 if self._snapshot.record.value_dtype == "float16" else np.float64

    def _projected(
        self, genes: Ints, weights: npt.NDArray[np.float64], room: npt.NDArray[np.float64], k: int, n: int,
        passing: Passing | None, by_heads: bool,
    ) -> Found:  # fmt: skip
        assert self._scan is not None  # noqa: S101 (for mypy)
        codec = self._scan.codec
        n_passing = None
        if passing is not None:
            by_study = np.add.reduceat(passing, self._snapshot.study_starts[:-1], dtype=np.int64)
            n_passing = int(by_study[self._is_projected].sum())
        projection = codec.project(genes, weights)
        rows, guesses = self._scan.candidates(projection, max(n, k), passing, n_passing)
        n_candidates, n_finalists = len(rows), _FINALISTS_A_CELL * k
        if by_heads and len(rows) > n_finalists and not self._wide.any():
            residual = codec.residual(room.astype(np.float32), projection)
            guesses = np.ascontiguousarray(guesses)
            add_heads(self._row_tables, self._snapshot.study_starts, rows, residual, guesses)
            rows = rows[np.argpartition(-guesses, n_finalists)[:n_finalists]]
        return Found(rows, self._score(rows, room), n_candidates)

    def _score(self, rows: Ints, room: npt.NDArray[np.float64]) -> npt.NDArray[Any]:
        tables, starts = self._row_tables, self._snapshot.study_starts
        if not self._wide.any():
            narrow = np.empty(len(rows), np.float32)
            score_narrow(tables, starts, rows, room.astype(np.float32), narrow)
            return narrow.astype(self._dtype)
        scores = np.empty(len(rows))
        wide = self._wide[np.searchsorted(starts, rows, side="right") - 1]
        some = np.empty(np.count_nonzero(wide))
        score_wide(tables, starts, rows[wide], room, some)
        scores[wide] = some
        narrow = np.empty(len(rows) - len(some), np.float32)
        score_narrow(tables, starts, rows[~wide], room.astype(np.float32), narrow)
        scores[~wide] = narrow
        return scores.astype(self._dtype)
