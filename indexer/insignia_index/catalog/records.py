"""Catalog records: what is known of the atlas and of each study, as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

from insignia_index.format.files import ShardFiles
from insignia_model.errors import AtlasCorrupt, UnsupportedFormat

CATALOG_VERSION = 1
_NAME_BYTES = 120


@dataclass(frozen=True, slots=True)
class AtlasRecord:
    """The atlas as a whole. ``next_shard`` numbers shards, so that no directory name is used twice."""

    revision: int
    value_dtype: str
    next_shard: int = 1

    def to_json(self) -> bytes:
        """As stored under ``atlas``."""
        return json.dumps(asdict(self)).encode()


@dataclass(frozen=True, slots=True)
class FieldRecord:
    """One metadata column of one study. ``dtype`` is numpy's; ``n_values``: length of the dictionary."""

    kind: str
    dtype: str
    n_missing: int
    n_values: int = 0
    minimum: float | None = None
    maximum: float | None = None


@dataclass(frozen=True, slots=True)
class StudyRecord:
    """One study at the revision that published it."""

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
    files: ShardFiles
    fields: dict[str, FieldRecord] = field(default_factory=dict)

    def to_json(self) -> bytes:
        """As stored under ``study/<study>`` and in the shard's manifest."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_json(cls, raw: bytes | memoryview, path: Path) -> Self:
        """Parse what `to_json` wrote; ``path`` is named if it cannot be."""
        try:
            data: dict[str, Any] = json.loads(bytes(raw))
            data["files"] = ShardFiles(**data["files"])
            data["fields"] = {name: FieldRecord(**record) for name, record in data["fields"].items()}
            return cls(**data)
        except (ValueError, TypeError, KeyError) as error:
            raise AtlasCorrupt(path, f"a study record cannot be read ({error})") from error


def parse_atlas(
    raw: bytes | memoryview | None, version: bytes | memoryview | None, path: Path
) -> AtlasRecord:
    """Atlas record, once the version of the catalog has been found readable."""
    if version is None or raw is None:
        raise AtlasCorrupt(path, "it is not the catalog of an atlas")
    try:
        found = json.loads(bytes(version))["version"]
    except (ValueError, TypeError, KeyError) as error:
        raise AtlasCorrupt(path, f"its format record cannot be read ({error})") from error
    if found != CATALOG_VERSION:
        raise UnsupportedFormat(path, found, f"version {CATALOG_VERSION}")
    try:
        return AtlasRecord(**json.loads(bytes(raw)))
    except (ValueError, TypeError) as error:
        raise AtlasCorrupt(path, f"its atlas record cannot be read ({error})") from error


def format_json() -> bytes:
    """As stored under ``format``; readers look at nothing else before it."""
    return json.dumps({"format": "insignia atlas", "version": CATALOG_VERSION}).encode()


def shard_name(study: str, number: int) -> str:
    """Directory name of a study's shard: readable, safe on any file system, never used twice."""
    return f"{quote(study, safe=' ')[:_NAME_BYTES]}@{number}"
