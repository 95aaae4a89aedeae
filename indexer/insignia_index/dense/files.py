"""Where the dense files of an atlas lie, and their checks."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from insignia_index.dense.record import FaissRecord, FileRecord, StudyFaiss
from insignia_index.format.files import file_digest, unreadable
from insignia_model.errors import AtlasCorrupt

if TYPE_CHECKING:
    from insignia_index.catalog.records import AtlasRecord, StudyRecord
    from insignia_index.snapshot import Snapshot

FOLDER = "faiss"
STAGING = ".staging"
CODEC, LISTS = "codec.npz", "lists.index"
_ATLAS_FILES = {"codec": CODEC, "lists": LISTS}


def folder(atlas: Path, version: int) -> Path:
    """Of one version of the codec."""
    return atlas / FOLDER / str(version)


def study_file(directory: Path, shard: str, what: str) -> Path:
    """A study's index or rows."""
    return directory / f"{shard}.{what}"


def described(path: Path) -> FileRecord:
    """Size and digest of a file."""
    return FileRecord(path.stat().st_size, file_digest(path))


def checked(path: Path, record: FileRecord) -> Path:
    """The path, once its bytes are those that the catalog describes; raises `AtlasCorrupt`."""
    try:
        size, digest = path.stat().st_size, file_digest(path)
    except OSError as error:
        raise unreadable(path, error, "`insignia retrain` makes it anew") from error
    if (size, digest) != (record.size, record.digest):
        raise AtlasCorrupt(path, "it is not as it was written; `insignia retrain` makes it anew")
    return path


def _files(
    record: FaissRecord | None, studies: Iterable[tuple[str, StudyFaiss | None]]
) -> dict[str, FileRecord]:
    """What the catalog says of the files, by their path in the folder."""
    if record is None:
        return {}
    found = {f"{record.version}/{_ATLAS_FILES[what]}": file for what, file in record.files.items()}
    for shard, faiss in studies:
        if faiss is not None:
            found |= {f"{faiss.version}/{shard}.{what}": file for what, file in faiss.files.items()}
    return found


def dense_files(record: AtlasRecord, studies: Iterable[StudyRecord]) -> set[str]:
    """Paths of the files, in the folder, that a catalog names."""
    return set(_files(record.faiss, ((study.shard, study.faiss) for study in studies)))


def dense_bytes(snapshot: Snapshot) -> int:
    """Of all files together."""
    files = _files(snapshot.record.faiss, ((study.shard, study.faiss) for study in snapshot.studies))
    return sum(file.size for file in files.values())


def verify_dense(snapshot: Snapshot) -> None:
    """Compare all files with the catalog; raises `AtlasCorrupt`."""
    files = _files(snapshot.record.faiss, ((study.shard, study.faiss) for study in snapshot.studies))
    for name, record in files.items():
        checked(snapshot.atlas / FOLDER / name, record)


def clear_dense(atlas: Path, named: Collection[str]) -> None:
    """Remove what no catalog names; who has it open keeps it."""
    root = atlas / FOLDER
    if not root.is_dir():
        return
    for directory in list(root.iterdir()):
        if directory.name == STAGING or not any(name.startswith(f"{directory.name}/") for name in named):
            shutil.rmtree(directory, ignore_errors=True)
            continue
        for path in directory.iterdir():
            if f"{directory.name}/{path.name}" not in named:
                path.unlink(missing_ok=True)
    if not any(root.iterdir()):
        root.rmdir()
