"""The catalog of one revision, checked as a whole before anything else is read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from insignia_index.catalog.columns import unpack_text
from insignia_index.catalog.records import AtlasRecord, StudyRecord, catalog_digest, check_version
from insignia_index.catalog.store import ReadTransaction, Store
from insignia_index.format.files import bytes_digest
from insignia_index.genes.table import GeneTable, human
from insignia_model.errors import AtlasCorrupt, AtlasNotFound

T = TypeVar("T")

SHARDS = "shards"
#: Below it: what a writer has not published.
STAGING = ".staging"
#: Staged keys and values of a study, until they are in the catalog.
METADATA = "metadata.bin"
MANIFEST = "manifest.json"
#: Key of the table of gene names.
GENE_TABLE = "gene_table"
_REVISION = "revision"


@dataclass(frozen=True, slots=True)
class Catalog:
    """The atlas record, the study records in the order of their names, and the vocabulary."""

    record: AtlasRecord
    studies: tuple[StudyRecord, ...]
    genes: list[str]


def open_catalog(store: Store) -> tuple[ReadTransaction, Catalog]:
    """A view of the latest revision, and its catalog."""
    # first, so that a revision that is published meanwhile is not missed in the view
    published = _published_revision(store.atlas)
    view = store.read()
    try:
        catalog = _read(view, store)
        if catalog.record.revision < published:
            problem = f"it is revision {catalog.record.revision}, but {published} was published already"
            raise AtlasCorrupt(store.path, problem)
    except BaseException:
        view.close()
        raise
    return view, catalog


def read_revision(store: Store) -> int:
    """Number of the latest revision."""
    view = store.read()
    try:
        return _atlas_record(view, store).revision
    finally:
        view.close()


def read_gene_table(view: ReadTransaction, record: AtlasRecord, atlas: Path) -> GeneTable:
    """The table of gene names that the atlas carries, else the human one."""
    if not record.gene_table:
        return human()
    raw = view.get(GENE_TABLE)
    if raw is None or bytes_digest(raw) != record.gene_table:
        problem = "missing" if raw is None else "not as it was written"
        raise AtlasCorrupt(atlas, f"the gene table is {problem}")
    try:
        return GeneTable.unpack(raw)
    except ValueError as error:
        raise AtlasCorrupt(atlas, f"the gene table cannot be read ({error})") from error


def with_latest(store: Store, action: Callable[[], T]) -> T:
    """What ``action`` returns; done again if it met a corrupt atlas because a writer came between.

    A writer may remove a shard between our reading the catalog and opening its files.
    """
    while True:
        revision = read_revision(store)
        try:
            return action()
        except AtlasCorrupt:
            if read_revision(store) == revision:
                raise


def write_revision(atlas: Path, revision: int) -> None:
    """Note beside the catalog which revision was published, so that an older one is noticed."""
    if _published_revision(atlas) != revision:
        staging = atlas / SHARDS / STAGING
        staging.mkdir(exist_ok=True)
        (staging / _REVISION).write_text(f"{revision}\n")
        (staging / _REVISION).replace(atlas / _REVISION)


def is_new(store: Store) -> bool:
    """Whether nothing was ever published; raises `AtlasCorrupt` if shards say otherwise."""
    view = store.read()
    try:
        _atlas_record(view, store)
    except AtlasNotFound:
        return True
    finally:
        view.close()
    return False


def _read(view: ReadTransaction, store: Store) -> Catalog:
    record = _atlas_record(view, store)
    vocabulary, studies = view.get("vocabulary") or b"", view.items("study/")
    if catalog_digest(vocabulary, studies) != record.digest:
        raise AtlasCorrupt(store.path, "its study records do not match their checksum")
    parsed = tuple(StudyRecord.from_json(study, store.path) for _, study in studies)
    try:
        return Catalog(record, parsed, unpack_text(vocabulary))
    except UnicodeDecodeError as error:
        raise AtlasCorrupt(store.path, "its vocabulary is not text") from error


def _atlas_record(view: ReadTransaction, store: Store) -> AtlasRecord:
    """The atlas record; raises `AtlasNotFound` if no build has published one yet."""
    version, raw = view.get("format"), view.get("atlas")
    if version is None and raw is None:
        _check_unpublished(store)
        raise AtlasNotFound(store.atlas)
    if version is None or raw is None:
        raise AtlasCorrupt(store.path, "it is not the catalog of an atlas")
    check_version(version, store.path)
    return AtlasRecord.from_bytes(raw, store.path)


def _check_unpublished(store: Store) -> None:
    folder = store.atlas / SHARDS
    for directory in folder.iterdir() if folder.is_dir() else ():
        # a published shard has its manifest, and its metadata is in the catalog
        if (directory / MANIFEST).exists() and not (directory / METADATA).exists():
            raise AtlasCorrupt(store.path, f"it is empty, but {directory.name!r} was published")


def _published_revision(atlas: Path) -> int:
    try:
        return int((atlas / _REVISION).read_bytes())
    except (OSError, ValueError):  # it is there to notice an older catalog, not to be needed
        return 0
