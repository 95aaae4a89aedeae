"""What a snapshot needs to answer by FAISS: indexes in memory, rows in mapped files."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from insignia_index.dense.codec import FIRST, Codec
from insignia_index.dense.device import DeviceIndex, device_bytes, gpu_backend
from insignia_index.dense.files import CODEC, LISTS, checked, folder, study_file
from insignia_index.dense.record import FaissRecord, StudyFaiss
from insignia_index.dense.resident import Panel, Part, Passing, Projected
from insignia_index.dense.rows import Rows
from insignia_index.dense.scout import Places, Room, Scout
from insignia_index.kernels.row_scores import finalists, hints_of, score_narrow, score_wide
from insignia_index.kernels.rows import ROW_COLUMNS
from insignia_index.snapshot import Snapshot
from insignia_model.errors import AtlasCorrupt, EngineUnavailable

Ints = npt.NDArray[np.int64]

#: Of candidates, for each cell that is asked for: how many are left when their largest values have been
#: looked at, level by level of a head; the last are scored exactly. See docs/decisions/0014.
_LEFT_A_CELL = (20, 6, 2)
#: Cells that it is done for if fewer are asked for.
_LEAST = 100
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
    ``is_latest``: whether the catalog still names the files of this revision.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        record: FaissRecord,
        studies: Sequence[StudyFaiss | None],
        directory: Path | None = None,
        device: int | None = None,
        is_latest: Callable[[], bool] = lambda: True,
    ) -> None:
        self.record = record
        self._is_latest = is_latest
        self._snapshot = snapshot
        self._studies = studies
        self._directory = directory or folder(snapshot.atlas, record.version)
        self._loading = threading.Lock()
        self._loaded: _Loaded | None = None
        self._damage: AtlasCorrupt | EngineUnavailable | None = None
        self._device = device
        known = list(zip(snapshot.studies, studies, strict=True))
        #: studies that have no FAISS files
        self.missing = [study.study for study, faiss in known if faiss is None]
        #: every study is a panel, searched in the space of its genes
        self.is_exact = all(faiss is not None and faiss.kind == "exact" for _, faiss in known)

    @property
    def device_bytes(self) -> int:
        """Memory that the projected indexes take on a device; 0 if they are to stay on the processor."""
        kinds = zip(self._snapshot.studies, self._studies, strict=True)
        n_cells = sum(s.n_cells for s, faiss in kinds if faiss is not None and faiss.kind == "projected")
        if self._device is None or not n_cells:
            return 0
        return device_bytes(n_cells, self.record.n_dimensions)

    @property
    def bytes_on_device(self) -> int:
        """Memory that the projected indexes have taken on a device."""
        loaded = self._loaded
        return self.device_bytes if loaded is not None and loaded.is_on_device else 0

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
                    if not self._is_latest():  # whose indexes are removed; shards are mapped, and stay
                        self._damage = EngineUnavailable(
                            "faiss",
                            f"the atlas has a newer revision than {self._snapshot.revision}, whose indexes "
                            "had not been read",
                            "open or refresh the atlas, or use engine auto",
                        )
                    raise self._damage from error
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
        return int(self._snapshot.study_starts.searchsorted(row, side="right")) - 1

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
        row: int | None = None,
    ) -> Found:
        """The best ``k`` of some ``n_candidates`` cells of the projected studies, and of all of the panels.

        ``weights`` float64 (n,) of ``genes`` int64 (n,) ascending; ``passing`` bool (n_cells,). ``by_heads``:
        the candidates' heads choose those that are scored exactly, which suits queries that are like cells.
        ``row``: of the cell of a projected study whose profile the query is, if it is that of one.
        """
        return self.load().find(genes, weights, k, n_candidates, passing, by_heads, row)


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
        self._n_cells = sum(rows.n_cells for rows in self.rows.values())
        self._any_wide = bool(self._wide.any())
        self.panels = [
            Panel(np.flatnonzero(np.frombuffer(genes, np.bool_)), parts) for genes, parts in panels.items()
        ]
        self._places = Places(self._row_tables, snapshot.study_starts, hints_of(snapshot.study_starts))
        self._rooms: list[Room] = []  # that no search uses
        self.projected: Projected | None = None
        self._scan: Projected | DeviceIndex | None = None
        self._scout: Scout | None = None
        if projected:
            codec = Codec.load(checked(directory / CODEC, record.files["codec"]))
            lists = checked(directory / LISTS, record.files["lists"]) if "lists" in record.files else None
            self._scan = self.projected = Projected(codec, lists, projected)
            if lists is not None and not self._any_wide:
                self._scout = Scout(self.projected, self._places)

    def on(self, index: DeviceIndex) -> None:
        """Let a device scan the projections."""
        self._scan, self._scout = index, None

    @property
    def is_on_device(self) -> bool:
        """Whether a device scans the projections."""
        return isinstance(self._scan, DeviceIndex) and self._scan.n_cells_on_device > 0

    def find(
        self, genes: Ints, weights: npt.NDArray[np.float64], k: int, n_candidates: int,
        passing: Passing | None, by_heads: bool, row: int | None,
    ) -> Found:  # fmt: skip
        found, n = [], max(n_candidates, k)
        if self.projected is not None and by_heads and not self._any_wide:
            found.append(self._by_heads(genes, weights, k, n, passing, row))
        elif self.projected is not None:
            found.append(self._of_all(genes, weights, n, passing))
        if self.panels:
            room = np.zeros(max(_ROOM, len(self._snapshot.genes)))
            room[genes] = weights
            for panel in self.panels:
                rows = panel.best(room, k, passing)
                scores = panel.values(rows).astype(np.float64) @ room[panel.genes]
                found.append(Found(rows, scores.astype(self._dtype), len(rows)))
        if len(found) == 1:
            rows, scores = found[0].rows, found[0].scores
        else:
            rows = np.concatenate([np.empty(0, np.int64), *(part.rows for part in found)])
            scores = np.concatenate([np.empty(0, self._dtype), *(part.scores for part in found)])
        best = np.lexsort((rows, -scores))[:k]  # ties go to the smaller row
        return Found(rows[best], scores[best], sum(part.n_candidates for part in found))

    @property
    def _dtype(self) -> type[np.floating[Any]]:
        return np.float32 if self._snapshot.record.value_dtype == "float16" else np.float64

    def _n_passing(self, passing: Passing | None) -> int:
        """Cells of projected studies that pass."""
        if passing is None:
            return self._n_cells
        by_study = np.add.reduceat(passing, self._snapshot.study_starts[:-1], dtype=np.int64)
        return int(by_study[self._is_projected].sum())

    def _of_all(
        self, genes: Ints, weights: npt.NDArray[np.float64], n: int, passing: Passing | None
    ) -> Found:
        """All candidates, scored exactly."""
        assert self._scan is not None  # noqa: S101 (for mypy)
        projection = self._scan.codec.project(genes, weights)
        rows, _ = self._scan.candidates(projection, n, passing, self._n_passing(passing))
        return Found(rows, self._score(genes, weights, rows), len(rows))

    def _by_heads(
        self, genes: Ints, weights: npt.NDArray[np.float64], k: int, n: int, passing: Passing | None,
        row: int | None,
    ) -> Found:  # fmt: skip
        """Those candidates, scored exactly, whose largest values promise most. Of narrow rows."""
        assert self._scan is not None  # noqa: S101 (for mypy)
        codec, places, n_passing = self._scan.codec, self._places, self._n_passing(passing)
        left = np.array([n, *(max(k, _LEAST) * each for each in _LEFT_A_CELL)])
        light = weights.astype(np.float32)
        try:
            room = self._rooms.pop()
        except IndexError:
            room = Room(max(_ROOM, len(self._snapshot.genes)))
        room.weights[genes] = light
        scout = self._scout if n_passing else None
        if scout is not None and row is not None:
            projection = scout.projection(row)
        else:
            projection = codec.project(genes, light)[: None if scout is None else FIRST]
        codec.subtract(projection, room.weights)
        if scout is not None:
            n_left, n_candidates = scout.propose(projection, room, n, int(left[1]), passing, n_passing)
        else:
            rows, guesses = self._scan.candidates(projection, n, passing, n_passing)
            n_left = n_candidates = len(rows)
            room.reserve(n_left)
            room.rows[:n_left], room.guesses[:n_left] = rows, guesses
        tables, starts, hints = places.tables, places.starts, places.hints
        n_left = finalists(
            tables, starts, hints, room.rows, room.guesses, n_left, int(scout is not None), left,
            room.weights,
        )  # fmt: skip
        rows, scores = room.rows[:n_left].copy(), np.empty(n_left, np.float32)
        room.weights[codec.support] = 0
        room.weights[genes] = light
        score_narrow(tables, starts, hints, rows, room.weights, scores)
        room.weights[genes] = 0
        self._rooms.append(room)
        return Found(rows, scores.astype(self._dtype, copy=False), n_candidates)

    def _score(self, genes: Ints, weights: npt.NDArray[np.float64], rows: Ints) -> npt.NDArray[Any]:
        """Exact scores of rows (n,)."""
        places = self._places
        tables, starts, hints = places.tables, places.starts, places.hints
        room = np.zeros(max(_ROOM, len(self._snapshot.genes)))
        room[genes] = weights
        scores = np.empty(len(rows))
        wide = self._wide[np.searchsorted(starts, rows, side="right") - 1]
        if wide.any():
            some = np.empty(np.count_nonzero(wide))
            score_wide(tables, starts, hints, rows[wide], room, some)
            scores[wide] = some
        narrow = np.empty(np.count_nonzero(~wide), np.float32)
        score_narrow(tables, starts, hints, rows[~wide], room.astype(np.float32), narrow)
        scores[~wide] = narrow
        return scores.astype(self._dtype)
