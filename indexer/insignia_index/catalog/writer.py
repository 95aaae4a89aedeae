"""Changing an atlas: one writer at a time, everything in one transaction, leftovers cleared."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Self

from insignia_index.catalog.catalog import (
    GENE_TABLE,
    MANIFEST,
    METADATA,
    SHARDS,
    STAGING,
    is_new,
    open_catalog,
    write_revision,
)
from insignia_index.catalog.columns import pack_text
from insignia_index.catalog.lock import LOCK, writer_lock
from insignia_index.catalog.records import (
    AtlasRecord,
    StudyRecord,
    catalog_digest,
    format_json,
    shard_name,
)
from insignia_index.catalog.store import FULL, Store, WriteTransaction
from insignia_index.dense.files import clear_dense, dense_files
from insignia_index.dense.record import FaissRecord, StudyFaiss
from insignia_index.format.files import bytes_digest, fsync_directory
from insignia_model.errors import AtlasNotFound, InvalidArgument, StorageFull


class AtlasWriter:
    """Holds the writer's lock of an atlas. Stage studies, then `publish`; what is not published vanishes."""

    def __init__(
        self, path: Path, store: Store, create_dtype: str | None, pseudobulk: tuple[str, ...] = ()
    ) -> None:
        self.path = path
        self.studies: dict[str, StudyRecord] = {}
        self.genes: list[str] = []
        self._store = store
        if create_dtype is not None and is_new(store):
            self.record = AtlasRecord(revision=0, value_dtype=create_dtype, pseudobulk=pseudobulk)
        else:
            view, catalog = open_catalog(store)
            view.close()
            self.record, self.genes = catalog.record, catalog.genes
            self.studies = {study.study: study for study in catalog.studies}
        self._next_shard = self.record.next_shard
        self._staged: list[StudyRecord] = []
        self._removed: list[StudyRecord] = []
        self._gene_table: bytes | None = None
        self.staging = path / SHARDS / STAGING

    @classmethod
    @contextmanager
    def open(
        cls, path: Path, *, create_dtype: str | None = None, pseudobulk: tuple[str, ...] = ()
    ) -> Iterator[Self]:
        """Lock an atlas for writing; with ``create_dtype`` (float16 or float32) make it if there is none.

        ``pseudobulk``: fields of the pseudobulk units of an atlas that is made.
        """
        if path.exists() and not path.is_dir():
            raise InvalidArgument("atlas", f"{path} is a file, and an atlas is a directory")
        found = (path / "meta.lmdb").exists()
        if create_dtype is None and not found:
            raise AtlasNotFound(path)
        if not found:
            _check_is_free(path)
        made = not path.exists()
        with full_disk(path), writer_lock(path):
            published = found
            try:
                with _opened(path) as store:
                    writer = cls(path, store, create_dtype, pseudobulk)
                    published = writer.record.revision > 0
                    try:
                        writer._clear()
                        yield writer
                    finally:
                        published = writer.record.revision > 0  # in doubt, should clearing fail
                        published = writer._clear() > 0
            finally:
                if not published:
                    _remove_empty(path, made)

    def stage(self, study: str) -> tuple[str, Path]:
        """Name and empty directory of a new shard."""
        name = shard_name(study, self._next_shard)
        self._next_shard += 1
        directory = self.staging / name
        directory.mkdir(parents=True)
        return name, directory

    def add(self, record: StudyRecord) -> None:
        """A staged study is complete: its directory holds shard and metadata (`write_metadata`)."""
        manifest = self.staging / record.shard / MANIFEST
        manifest.write_bytes(record.to_json())
        self._staged.append(record)

    def remove(self, study: str) -> None:
        """Leave a study out of the next revision."""
        self._removed.append(self.studies[study])

    def set_gene_table(self, packed: bytes) -> None:
        """Let the next revision resolve gene names by this table."""
        self._gene_table = packed

    @property
    def store(self) -> Store:
        """The catalog."""
        return self._store

    def publish_faiss(self, record: FaissRecord | None, studies: Mapping[str, StudyFaiss | None]) -> None:
        """Make other FAISS files those of the atlas and of ``studies``, as the next revision.

        The files are in their places already; those that no catalog names any more are removed.
        """
        self.record = replace(self.record, faiss=record)
        changed = {name: replace(self.studies[name], faiss=faiss) for name, faiss in studies.items()}
        with self._store.write() as transaction:
            for name, study in changed.items():
                transaction.put(f"study/{name}", study.to_json())
            self._put_atlas(transaction)
        self.studies |= changed

    def publish(self) -> None:
        """Make the staged and removed studies the next revision, in one transaction."""
        if not self._staged and not self._removed and self._gene_table is None:
            return
        folder = self.path / SHARDS
        for record in self._staged:
            (self.staging / record.shard).rename(folder / record.shard)
        fsync_directory(folder)
        replaced = [self.studies[s.study] for s in self._staged if s.study in self.studies] + self._removed
        staged = [replace(record, revision=self.record.revision + 1) for record in self._staged]
        with self._store.write() as transaction:
            for record in replaced:
                _delete(transaction, record)
            for record in staged:
                _put(transaction, record, folder / record.shard)
            self._put_atlas(transaction)
        # published; readers that hold an earlier revision have the files mapped that `_clear` removes
        for record in replaced:
            self.studies.pop(record.study)
        self.studies |= {record.study: record for record in staged}
        self._staged, self._removed, self._gene_table = [], [], None

    def _put_atlas(self, transaction: WriteTransaction) -> None:
        vocabulary = pack_text(self.genes)
        if self._gene_table is not None:
            transaction.put(GENE_TABLE, self._gene_table)
            self.record = replace(self.record, gene_table=bytes_digest(self._gene_table))
        self.record = replace(
            self.record,
            revision=self.record.revision + 1,
            next_shard=self._next_shard,
            digest=catalog_digest(vocabulary, transaction.items("study/")),
        )
        transaction.put("format", format_json())
        transaction.put("vocabulary", vocabulary)
        transaction.put("atlas", self.record.to_bytes())

    def _clear(self) -> int:
        """Remove what the catalog does not name: what it replaced, what a writer left that died or failed.

        Returns the catalog's revision, 0 if nothing was published.
        """
        known, named, revision = set(), set(), 0
        if not is_new(self._store):
            view, catalog = open_catalog(self._store)
            view.close()
            known = {study.shard for study in catalog.studies}
            named = dense_files(catalog.record, catalog.studies)
            revision = catalog.record.revision
            with suppress(OSError):
                write_revision(self.path, revision)
        for directory in (self.path / SHARDS).iterdir():
            if directory.name not in known:
                shutil.rmtree(directory, ignore_errors=True)
            else:
                (directory / METADATA).unlink(missing_ok=True)
        clear_dense(self.path, named)
        return revision


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


@contextmanager
def _opened(path: Path) -> Iterator[Store]:
    store = Store(path, readonly=False)
    try:
        yield store
    finally:
        store.close()


def _check_is_free(path: Path) -> None:
    """Raise `InvalidArgument` if a directory has anything that no first build of an atlas leaves behind.

    What is in an atlas and is not of it is removed.
    """
    ours = {LOCK, "meta.lmdb", "meta.lmdb-lock", SHARDS, STAGING}  # another writer may just have begun
    shards = path / SHARDS
    if any(shards.glob(f"*/{MANIFEST}")):  # an atlas that has lost its catalog: `is_new` says so
        return
    found = [*(path.iterdir() if path.exists() else ()), *(shards.iterdir() if shards.is_dir() else ())]
    strange = [file for file in found if file.name not in ours]
    if strange:
        first = min(strange).relative_to(path)
        raise InvalidArgument(
            "atlas",
            f"{path} is a directory of something else (it has {first}); name one that is new or empty",
        )


def _remove_empty(path: Path, made: bool) -> None:
    """Take back what was made for an atlas whose first build failed."""
    for name in ("meta.lmdb", "meta.lmdb-lock", LOCK):
        (path / name).unlink(missing_ok=True)
    for directory in (path / SHARDS, *([path] if made else [])):
        with suppress(OSError):  # something else is in it
            directory.rmdir()


@contextmanager
def full_disk(path: Path) -> Iterator[None]:
    """Turn the operating system's "no space left" into `StorageFull`."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise StorageFull(path) from error
        raise
