"""Changing an atlas: one writer at a time, everything in one transaction, leftovers cleared."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO, Self

from insignia_index.catalog.columns import pack_text, unpack_text
from insignia_index.catalog.records import AtlasRecord, StudyRecord, format_json, parse_atlas, shard_name
from insignia_index.catalog.store import Store, WriteTransaction
from insignia_index.format.files import fsync_directory
from insignia_index.snapshot import SHARDS
from insignia_model.errors import AtlasLocked, AtlasNotFound, StorageFull

_STAGING = ".staging"
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class AtlasWriter:
    """Holds the writer's lock of an atlas. Stage studies, then `publish`; what is not published vanishes."""

    def __init__(self, path: Path, lock: IO[str], store: Store, record: AtlasRecord) -> None:
        self.path = path
        self.record = record
        self._lock = lock
        self._store = store
        self._next_shard = record.next_shard
        self._staged: list[StudyRecord] = []
        self._removed: list[StudyRecord] = []
        view = store.read()
        self.studies = {name: StudyRecord.from_json(raw, store.path) for name, raw in view.items("study/")}
        self.genes = unpack_text(view.get("vocabulary") or b"")
        view.close()
        self.staging = path / SHARDS / _STAGING
        self._clear()

    @classmethod
    @contextmanager
    def open(cls, path: Path, *, create_dtype: str | None = None) -> Iterator[Self]:
        """Lock an atlas for writing; with ``create_dtype`` (float16 or float32) make it if there is none."""
        if not (path / "meta.lmdb").exists() and create_dtype is None:
            raise AtlasNotFound(path)
        with full_disk(path):
            (path / SHARDS).mkdir(parents=True, exist_ok=True)
            lock = _locked(path)
        try:
            with full_disk(path):
                store = Store(path, readonly=False)
                try:
                    if create_dtype is not None:
                        _initialise(store, create_dtype)
                    view = store.read()
                    record = parse_atlas(view.get("atlas"), view.get("format"), store.path)
                    view.close()
                    writer = cls(path, lock, store, record)
                    yield writer
                    writer._clear()
                finally:
                    store.close()
        finally:
            lock.close()

    def stage(self, study: str) -> tuple[str, Path]:
        """Name and empty directory of a new shard."""
        name = shard_name(study, self._next_shard)
        self._next_shard += 1
        directory = self.staging / name
        directory.mkdir(parents=True)
        return name, directory

    def add(self, record: StudyRecord) -> None:
        """A staged study is complete: its directory holds shard and metadata (`write_metadata`)."""
        manifest = self.staging / record.shard / "manifest.json"
        manifest.write_bytes(record.to_json())
        self._staged.append(record)

    def remove(self, study: str) -> None:
        """Leave a study out of the next revision."""
        self._removed.append(self.studies[study])

    def publish(self) -> None:
        """Make the staged and removed studies the next revision, in one transaction."""
        if not self._staged and not self._removed:
            return
        folder = self.path / SHARDS
        for record in self._staged:
            (self.staging / record.shard).rename(folder / record.shard)
        fsync_directory(folder)
        revision = self.record.revision + 1
        replaced = [self.studies[s.study] for s in self._staged if s.study in self.studies] + self._removed
        with self._store.write() as transaction:
            for record in replaced:
                _delete(transaction, record)
            for record in self._staged:
                _put(transaction, replace(record, revision=revision), folder / record.shard)
            transaction.put("vocabulary", pack_text(self.genes))
            self.record = replace(self.record, revision=revision, next_shard=self._next_shard)
            transaction.put("atlas", self.record.to_json())
        # readers that hold an earlier revision have its files mapped
        for record in replaced:
            self.studies.pop(record.study, None)
            shutil.rmtree(folder / record.shard, ignore_errors=True)
        for record in self._staged:
            (folder / record.shard / METADATA).unlink(missing_ok=True)
            self.studies[record.study] = replace(record, revision=revision)
        self._staged, self._removed = [], []

    def _clear(self) -> None:
        """Remove what no revision refers to: the leftovers of a writer that died, or of one that failed."""
        known = {record.shard for record in self.studies.values()}
        for directory in (self.path / SHARDS).iterdir():
            if directory.name not in known:
                shutil.rmtree(directory, ignore_errors=True)


#: Staged keys and values of a study, until they are in the catalog.
METADATA = "metadata.bin"


def write_metadata(directory: Path, items: list[tuple[str, bytes]]) -> None:
    """Keep a study's catalog entries on disk until it is published: memory is for the study being read."""
    with (directory / METADATA).open("wb") as file:
        for key, value in items:
            name = key.encode()
            file.write(len(name).to_bytes(8, "little") + len(value).to_bytes(8, "little") + name + value)


def _read_metadata(path: Path) -> Iterator[tuple[str, bytes]]:
    with path.open("rb") as file:
        while sizes := file.read(16):
            key = file.read(int.from_bytes(sizes[:8], "little")).decode()
            yield key, file.read(int.from_bytes(sizes[8:], "little"))


def _put(transaction: WriteTransaction, record: StudyRecord, directory: Path) -> None:
    transaction.put(f"study/{record.study}", record.to_json())
    for key, value in _read_metadata(directory / METADATA):
        transaction.put(key, value)


def _delete(transaction: WriteTransaction, record: StudyRecord) -> None:
    transaction.delete(f"study/{record.study}")
    for kind in ("cells", "genes"):
        transaction.delete(f"{kind}/{record.shard}")
    for field in record.fields:
        transaction.delete(f"column/{record.shard}/{field}")
        transaction.delete(f"dictionary/{record.shard}/{field}")


def _initialise(store: Store, value_dtype: str) -> None:
    with store.write() as transaction:
        if transaction.get("format") is None:
            transaction.put("format", format_json())
            transaction.put("atlas", AtlasRecord(revision=0, value_dtype=value_dtype).to_json())


def _locked(path: Path) -> IO[str]:
    file = (path / "writer.lock").open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.seek(0)
        holder = file.read().strip() or "unknown process"
        file.close()
        raise AtlasLocked(path, holder) from error
    file.truncate(0)
    file.write(f"process {os.getpid()}")
    file.flush()
    return file


@contextmanager
def full_disk(path: Path) -> Iterator[None]:
    """Turn the operating system's "no space left" into `StorageFull`."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise StorageFull(path) from error
        raise
