"""Making the dense files of an atlas: the codec, the indexes of its studies, and their measured recall."""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from insignia_index.build.progress import Progress, SilentProgress
from insignia_index.catalog.writer import AtlasWriter
from insignia_index.dense.codec import Codec
from insignia_index.dense.dense import Dense
from insignia_index.dense.files import CODEC, FOLDER, LISTS, STAGING, described, folder, study_file
from insignia_index.dense.files import checked as checked_file
from insignia_index.dense.index import (
    faiss_module,
    lists_for,
    train_lists,
    training_cells,
    write_exact,
    write_projected,
)
from insignia_index.dense.recall import measure
from insignia_index.dense.record import KINDS, CurvePoint, FaissRecord, StudyFaiss
from insignia_index.dense.rows import Rows, is_current, write_rows
from insignia_index.format.files import fsync_directory
from insignia_index.search.engine import Session
from insignia_index.search.gene_cache import GENE_CACHE_BYTES, GeneCache
from insignia_index.search.plan import Groupings
from insignia_index.search.tasks import Buffers, Threads
from insignia_index.snapshot import Snapshot
from insignia_model.errors import InvalidArgument

N_DIMENSIONS = 128
#: Genes up to which a study is a panel, searched exactly in the space of its genes.
PANEL_GENES = 2_048
#: Genes up to which that can be asked for: a cell takes 4 bytes a gene.
_MOST_EXACT_GENES = 8_192
_TRAINING_CELLS = 8_000
_TRAINING_POSTINGS = 16_000_000

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class TrainReport:
    """What was done: studies whose FAISS files were written, and the record that was published."""

    studies: list[str]
    record: FaissRecord | None
    revision: int


def retrain(
    path: str | Path,
    policy: str | None = None,
    *,
    n_dimensions: int | None = None,
    progress: Progress | None = None,
) -> TrainReport:
    """Learn the codec anew and replace the FAISS files of all studies, as one new revision.

    ``policy``: exact (inner products in the space of the genes), projected, auto (exact for studies of up to
    2,048 genes), none (remove the files); default: that of the atlas, else auto.
    """
    with AtlasWriter.open(Path(path)) as writer:
        known = writer.record.faiss
        policy = policy or (known.policy if known else "auto")
        return update(writer, policy, n_dimensions=n_dimensions, anew=True, progress=progress)


def check_policy(policy: str | None) -> None:
    """Raise `InvalidArgument` or `EngineUnavailable` unless the policy can be followed here."""
    if policy is not None and policy not in KINDS:
        raise InvalidArgument("faiss", f"{policy!r} is not one of {', '.join(KINDS)}")
    if policy not in (None, "none"):
        faiss_module()


def update(
    writer: AtlasWriter,
    policy: str | None,
    *,
    n_dimensions: int | None = None,
    anew: bool = False,
    progress: Progress | None = None,
    checked: Collection[str] = (),
) -> TrainReport:
    """Bring the FAISS files of a published atlas up to date: those of new studies, or all of them.

    ``policy``: see `retrain`; another than that of the atlas makes all anew; None: that of the atlas, else
    none. ``checked``: studies whose containers the caller has checked.
    """
    known = writer.record.faiss
    policy = policy or (known.policy if known else "none")
    check_policy(policy)
    if n_dimensions is not None and n_dimensions < 1:
        raise InvalidArgument("dimensions", f"{n_dimensions} is below 1")
    if policy == "none":
        if known is not None:
            writer.publish_faiss(None, dict.fromkeys(writer.studies))
        return TrainReport([], None, writer.record.revision)
    snapshot = Snapshot(writer.path, writer.store)
    for study in checked:
        snapshot.shards[snapshot.study_index(study)].checked[:] = True
    try:
        job = _Training(writer, snapshot, policy, n_dimensions, anew, progress or SilentProgress())
        return job.run()
    finally:
        snapshot.close()


class _Training:
    def __init__(
        self, writer: AtlasWriter, snapshot: Snapshot, policy: str, n_dimensions: int | None, anew: bool,
        progress: Progress,
    ) -> None:  # fmt: skip
        self._writer, self._snapshot, self._progress = writer, snapshot, progress
        self._known = writer.record.faiss
        self._kinds = [self._kind(i, policy) for i in range(len(snapshot.studies))]
        known = self._known
        lacks_codec = known is not None and "projected" in self._kinds and "codec" not in known.files
        self._anew = anew or known is None or known.policy != policy or lacks_codec or self._has_earlier()
        version = 0 if known is None else known.version
        dimensions = n_dimensions or (known.n_dimensions if known else 0) or N_DIMENSIONS
        self._record = FaissRecord(policy, version + 1, dimensions) if self._anew or known is None else known
        self._n_threads = os.cpu_count() or 1

    def _has_earlier(self) -> bool:
        """Some study's rows are of an earlier version, which no search reads."""
        for study in self._snapshot.studies:
            if study.faiss is not None and "rows" in study.faiss.files:
                path = study_file(folder(self._writer.path, study.faiss.version), study.shard, "rows")
                if path.exists() and not is_current(path):
                    return True
        return False

    def _kind(self, study: int, policy: str) -> str:
        n_genes = self._snapshot.studies[study].n_genes_measured
        if policy == "exact" and n_genes > _MOST_EXACT_GENES:
            raise InvalidArgument(
                "faiss",
                f"study {self._snapshot.studies[study].study!r} measured {n_genes:,} genes, and exact "
                f"takes at most {_MOST_EXACT_GENES:,}; use auto or projected",
            )
        if policy == "auto":
            return "exact" if n_genes <= PANEL_GENES else "projected"
        return policy

    def run(self) -> TrainReport:
        studies = self._snapshot.studies
        done: list[StudyFaiss | None] = [None if self._anew else study.faiss for study in studies]
        todo = [i for i, faiss in enumerate(done) if faiss is None]
        if not todo and not self._anew:
            return TrainReport([], self._record, self._writer.record.revision)
        with _staging(self._writer.path) as staging, ThreadPoolExecutor(self._n_threads) as pool:
            self._progress.start("rows and FAISS", sum(studies[i].n_cells for i in todo))
            projected = [i for i in todo if self._kinds[i] == "projected"]
            list(pool.map(lambda i: self._write_rows(staging, i), projected))
            codec = self._codec(staging, projected, pool)
            for i, faiss in zip(
                todo, pool.map(lambda i: self._write_index(staging, i, codec), todo), strict=True
            ):
                done[i] = faiss
                self._progress.advance(studies[i].n_cells)
            self._progress.finish()
            directory = folder(self._writer.path, self._record.version)
            _move(staging, directory)
        self._record = replace(self._record, recall=self._recall(done))
        by_study = {study.study: faiss for study, faiss in zip(studies, done, strict=True)}
        self._writer.publish_faiss(self._record, by_study)
        return TrainReport([studies[i].study for i in todo], self._record, self._writer.record.revision)

    def _write_rows(self, staging: Path, study: int) -> None:
        """The rows, which no codec changes: those of an earlier version, if there are any."""
        record = self._snapshot.studies[study]
        path = study_file(staging, record.shard, "rows")
        if record.faiss is not None and "rows" in record.faiss.files:
            earlier = study_file(folder(self._writer.path, record.faiss.version), record.shard, "rows")
            with suppress(OSError):  # no such file, or a file system without links
                os.link(earlier, path)
                if described(path) == record.faiss.files["rows"] and is_current(path):
                    return
                path.unlink()
        self._snapshot.check_study(study)
        write_rows(path, self._snapshot.shards[study])

    def _codec(self, staging: Path, projected: list[int], pool: ThreadPoolExecutor) -> Codec | None:
        """That of the atlas, or a new one, learned on a sample of the cells and left in ``staging``."""
        if "projected" not in self._kinds:
            return None
        if not self._anew:
            path = folder(self._writer.path, self._record.version) / CODEC
            return Codec.load(checked_file(path, self._record.files["codec"]))
        cells, postings = (
            sum(getattr(self._snapshot.studies[i], n) for i in projected) for n in ("n_cells", "n_postings")
        )
        n_training = max(1, int(min(_TRAINING_CELLS, cells, _TRAINING_POSTINGS * cells // max(1, postings))))
        rows = {i: self._rows(staging, i) for i in projected}
        sample = self._sample(projected, n_training, seed=3)
        parts = list(pool.map(lambda part: rows[part[0]].matrix(part[1]), sample))
        width = max(part.shape[1] for part in parts)
        for part in parts:  # the vocabulary may have grown between them
            part.resize(part.shape[0], width)
        codec = Codec.learn(sp.vstack(parts, format="csr"), self._record.n_dimensions)
        codec.save(staging / CODEC)
        n_lists = lists_for(cells)
        files = {"codec": described(staging / CODEC)}
        if n_lists:
            wanted = min(cells, training_cells(n_lists))
            sample = self._sample(projected, wanted, seed=4)
            projections = pool.map(lambda part: rows[part[0]].project(codec.components, part[1])[0], sample)
            lists = train_lists(np.concatenate(list(projections)) * np.float32(codec.scale), n_lists)
            faiss_module().write_index(lists, str(staging / LISTS))
            files["lists"] = described(staging / LISTS)
        self._record = replace(
            self._record, n_dimensions=codec.n_dimensions, n_lists=n_lists, n_training=n_training, files=files
        )
        return codec

    def _rows(self, directory: Path, study: int) -> Rows:
        record = self._snapshot.studies[study]
        path = study_file(directory, record.shard, "rows")
        return Rows(path, path.stat().st_size, record.n_cells)

    def _sample(self, studies: list[int], n: int, seed: int) -> Iterator[tuple[int, Ints]]:
        """``n`` cells of the studies, drawn evenly: (study, cells int64 ascending)."""
        starts = np.concatenate([[0], np.cumsum([self._snapshot.studies[i].n_cells for i in studies])])
        drawn = np.sort(np.random.default_rng(seed).choice(starts[-1], n, replace=False))
        for i, study in enumerate(studies):
            some = drawn[(drawn >= starts[i]) & (drawn < starts[i + 1])] - starts[i]
            if len(some):
                yield study, some

    def _write_index(self, staging: Path, study: int, codec: Codec | None) -> StudyFaiss:
        record, kind = self._snapshot.studies[study], self._kinds[study]
        path = study_file(staging, record.shard, "index")
        files, kept = {}, 1.0
        if codec is not None and kind == "projected":
            home = staging if self._anew else folder(self._writer.path, self._record.version)
            lists = home / LISTS if self._record.n_lists else None
            kept = write_projected(path, self._rows(staging, study), codec, lists)
            files["rows"] = described(study_file(staging, record.shard, "rows"))
        else:
            self._snapshot.check_study(study)
            sets, which = self._snapshot.measured_sets
            write_exact(path, self._snapshot.shards[study], np.flatnonzero(sets[which[study]]))
        return StudyFaiss(kind, self._record.version, round(kept, 4), files | {"index": described(path)})

    def _recall(self, done: list[StudyFaiss | None]) -> dict[str, list[CurvePoint]]:
        """Measured on the whole atlas as it will be."""
        if "projected" not in self._kinds:
            return {}
        dense = Dense(self._snapshot, self._record, done)
        threads, genes = Threads(1), GeneCache(self._snapshot, GENE_CACHE_BYTES)
        try:
            session = Session(self._snapshot, Groupings(self._snapshot), genes, Buffers(), threads)
            projected = [i for i, kind in enumerate(self._kinds) if kind == "projected"]
            return measure(session, dense, projected)
        finally:
            threads.close()


@contextmanager
def _staging(atlas: Path) -> Iterator[Path]:
    """An empty folder for files that are being written; nothing of it is left."""
    path = atlas / FOLDER / STAGING
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _move(staging: Path, directory: Path) -> None:
    """Make the files of ``staging`` durable in ``directory``, where no catalog names them yet."""
    directory.mkdir(exist_ok=True)
    for path in staging.iterdir():
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        path.rename(directory / path.name)
    fsync_directory(directory)
    fsync_directory(directory.parent)
