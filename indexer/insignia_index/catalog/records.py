"""Catalog records: what is known of the atlas and of each study, as JSON.

LMDB's pages carry no checksums. So the atlas record is stored behind its own digest and holds that of the
study records and the vocabulary; a study record holds those of the study's other values.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

from insignia_index.dense.record import FaissRecord, StudyFaiss
from insignia_index.format.files import ShardFiles, bytes_digest
from insignia_model.errors import AtlasCorrupt, UnsupportedFormat

CATALOG_VERSION = 1
#: Bits of a stored value by the name of its dtype.
VALUE_BITS = {"float16": 16, "float32": 32}

_NAME_BYTES = 120
_DIGEST_BYTES = 16


@dataclass(frozen=True, slots=True)
class AtlasRecord:
    """The atlas as a whole. ``next_shard`` numbers shards, so that no directory name is used twice.

    ``digest``: of the vocabulary and of all study records, see `catalog_digest`. ``gene_table``: digest of
    the atlas's own table of gene names, empty if it has none. ``pseudobulk``: fields whose values make the
    units of the pseudobulk sums; empty: none are kept. ``faiss``: the codec and its recall, if there are any.
    """

    revision: int
    value_dtype: str
    next_shard: int = 1
    digest: str = ""
    gene_table: str = ""
    pseudobulk: tuple[str, ...] = ()
    faiss: FaissRecord | None = None

    @property
    def value_bits(self) -> int:
        """Bits of a stored value."""
        return VALUE_BITS[self.value_dtype]

    def to_bytes(self) -> bytes:
        """As stored under ``atlas``: digest of the JSON, then the JSON."""
        values = asdict(self)
        if not self.gene_table:  # readers that know of no gene tables can read such an atlas
            del values["gene_table"]
        if self.faiss is None:  # likewise
            del values["faiss"]
        body = json.dumps(values).encode()
        return bytes_digest(body).encode() + body

    @classmethod
    def from_bytes(cls, raw: bytes | memoryview, path: Path) -> Self:
        """Parse what `to_bytes` wrote; ``path`` is named if it cannot be."""
        stored, body = bytes(raw[:_DIGEST_BYTES]), bytes(raw[_DIGEST_BYTES:])
        if bytes_digest(body).encode() != stored:
            raise AtlasCorrupt(path, "its atlas record does not match its checksum")
        try:
            data = json.loads(body)
            data["pseudobulk"] = tuple(map(str, data.get("pseudobulk", ())))
            if "faiss" in data:
                data["faiss"] = FaissRecord.from_json(data["faiss"])
            record = cls(**data)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise AtlasCorrupt(path, f"its atlas record cannot be read ({error})") from error
        if record.value_dtype not in VALUE_BITS:
            raise AtlasCorrupt(path, f"its values are {record.value_dtype!r}, which nobody writes")
        return record


@dataclass(frozen=True, slots=True)
class FieldRecord:
    """One metadata column of one study.

    ``dtype`` is numpy's; ``n_values``: length of the dictionary; ``digest``: of values and dictionary.
    """

    kind: str
    dtype: str
    n_missing: int
    n_values: int = 0
    minimum: float | None = None
    maximum: float | None = None
    digest: str = ""


@dataclass(frozen=True, slots=True)
class StudyRecord:
    """One study at the revision that published it.

    ``digest``: of its input and how it was read; ``cells_digest``, ``genes_digest``: of these catalog values.
    ``recipe``: how its attributions were made, in the words of the input; empty if that does not say.
    ``faiss``: its FAISS files, if it has any.
    """

    study: str
    shard: str
    revision: int
    n_cells: int
    n_samples: int
    n_postings: int
    n_genes_measured: int
    signed: bool
    source: str
    digest: str
    cells_digest: str
    genes_digest: str
    files: ShardFiles
    fields: dict[str, FieldRecord] = field(default_factory=dict)
    recipe: dict[str, Any] = field(default_factory=dict)
    faiss: StudyFaiss | None = None

    def to_json(self) -> bytes:
        """As stored under ``study/<study>`` and in the shard's manifest."""
        values = asdict(self)
        if not self.recipe:  # readers that know of no recipes can read such a study
            del values["recipe"]
        if self.faiss is None:  # likewise
            del values["faiss"]
        return json.dumps(values).encode()

    @classmethod
    def from_json(cls, raw: bytes | memoryview, path: Path) -> Self:
        """Parse what `to_json` wrote; ``path`` is named if it cannot be."""
        try:
            data: dict[str, Any] = json.loads(bytes(raw))
            data["files"] = ShardFiles(**data["files"])
            data["fields"] = {name: FieldRecord(**record) for name, record in data["fields"].items()}
            if "faiss" in data:
                data["faiss"] = StudyFaiss.from_json(data["faiss"])
            record = cls(**data)
            if not isinstance(record.recipe, dict):
                raise ValueError("its recipe is no JSON object")
            files = record.files
            # a writer removes the directory of this name
            if "/" in record.shard or record.shard in (".", "..") or "postings.bin" not in files.sizes:
                raise ValueError("its files are not those of a shard")
            if min(record.n_cells, files.head_offset, files.head_bytes, *files.sizes.values()) < 0:
                raise ValueError("a size is negative")
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise AtlasCorrupt(path, f"a study record cannot be read ({error})") from error
        return record


def check_version(raw: bytes | memoryview, path: Path) -> None:
    """Raise `UnsupportedFormat` unless the format record is of the version that this code reads."""
    try:
        found = json.loads(bytes(raw))["version"]
    except (ValueError, TypeError, KeyError) as error:
        raise AtlasCorrupt(path, f"its format record cannot be read ({error})") from error
    if found != CATALOG_VERSION:
        raise UnsupportedFormat(path, found, f"version {CATALOG_VERSION}")


def catalog_digest(vocabulary: bytes | memoryview, studies: list[tuple[str, memoryview]]) -> str:
    """Digest of the vocabulary and of every (name, record) of ``studies``, in their order."""
    return bytes_digest(vocabulary, *(part for name, raw in studies for part in (name.encode(), b"\0", raw)))


def format_json() -> bytes:
    """As stored under ``format``; readers look at nothing else before it."""
    return json.dumps({"format": "insignia atlas", "version": CATALOG_VERSION}).encode()


def shard_name(study: str, number: int) -> str:
    """Directory name of a study's shard: readable, safe on any file system, never used twice."""
    return f"{quote(study, safe=' ')[:_NAME_BYTES]}@{number}"
