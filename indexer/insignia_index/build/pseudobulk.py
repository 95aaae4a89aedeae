"""Pseudobulk of a study that is being built: which fields, and its file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from insignia_index.format.files import ShardFiles, file_digest, fsync_directory
from insignia_index.format.pseudobulk import write_sums
from insignia_index.format.reader import Shard
from insignia_index.search.grouping import label_cells
from insignia_model.errors import InvalidArgument
from insignia_model.signature import repeated
from insignia_model.table import Column

DEFAULT_FIELDS = ("sample", "cell_type")


def pseudobulk_fields(given: Sequence[str] | None) -> tuple[str, ...]:
    """Fields of the units; None: the default. The study is part of every unit, and need not be named."""
    if given is None:
        return DEFAULT_FIELDS
    if isinstance(given, str):
        raise InvalidArgument("pseudobulk", f"{given!r} is one string; pass a list such as ['sample']")
    if twice := repeated(given):
        raise InvalidArgument("pseudobulk", f"{twice[0]!r} is named twice")
    fields = tuple(name for name in given if name != "study")
    if given and not fields:
        raise InvalidArgument(
            "pseudobulk",
            "every unit is of one study: name the fields that divide it, such as sample, or none",
        )
    return fields


def with_pseudobulk(shard: Shard, files: ShardFiles, columns: Sequence[Column | None]) -> ShardFiles:
    """Write the sums of a shard that was checked, by its cells' values of ``columns``; all its files."""
    labels, keys = label_cells(columns, shard.n_cells)
    name = write_sums(shard.directory, shard, labels.astype(np.int32), len(keys))
    if name is None:
        return files
    path = shard.directory / name
    fsync_directory(shard.directory)
    return replace(
        files,
        sizes=files.sizes | {name: path.stat().st_size},
        digests=files.digests | {name: file_digest(path)},
    )
