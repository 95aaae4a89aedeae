"""Reading every byte of an atlas."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from insignia_index.catalog.catalog import MANIFEST, with_latest
from insignia_index.catalog.records import StudyRecord
from insignia_index.catalog.store import Store, check_pages
from insignia_index.dense.files import dense_bytes, verify_dense
from insignia_index.format.files import unreadable
from insignia_index.format.reader import verify_files
from insignia_index.snapshot import Snapshot
from insignia_model.errors import AtlasCorrupt


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What was read."""

    n_studies: int
    size_bytes: int


def verify_atlas(path: str | Path) -> VerifyReport:
    """Compare every file with its digest, every container with its checksum, and read all metadata.

    Raises `AtlasCorrupt` that names the first file, study, field or gene that is not as it was written.
    """
    path = Path(path)
    check_pages(path)
    store = Store(path)
    try:
        return with_latest(store, lambda: _verified(path, store))
    finally:
        store.close()


def _verified(path: Path, store: Store) -> VerifyReport:
    snapshot = Snapshot(path, store)
    try:
        for study, shard in zip(snapshot.studies, snapshot.shards, strict=True):
            verify_files(shard.directory, study.files)
            _verify_manifest(shard.directory / MANIFEST, study)
        snapshot.check_genes(np.arange(len(snapshot.genes)))
        for i in range(len(snapshot.studies)):
            snapshot.check_metadata(i)
        snapshot.gene_table()
        verify_dense(snapshot)
        size_bytes = sum(sum(study.files.sizes.values()) for study in snapshot.studies) + dense_bytes(
            snapshot
        )
        return VerifyReport(len(snapshot.studies), size_bytes)
    finally:
        snapshot.close()


def _verify_manifest(path: Path, study: StudyRecord) -> None:
    try:
        manifest = StudyRecord.from_json(path.read_bytes(), path)
    except OSError as error:
        raise unreadable(path, error) from error
    # it was written before the study had a revision, or FAISS files
    if replace(manifest, revision=study.revision) != replace(study, faiss=None):
        raise AtlasCorrupt(path, "it is not what the catalog says of the study")
