"""Chunks of a screen are one table, wherever they are cut."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from insignia_index import Atlas
from insignia_index.search import screening

from .made import build, study


def test_chunks_joined_keep_every_value_of_every_kind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields: dict[str, Any] = {
        "age": np.where(np.arange(40) % 3, np.arange(40) % 4, np.nan),
        "n": np.arange(40) % 2,
        "tissue": ["b", "a", None, "c"] * 10,
    }
    with Atlas.open(build(tmp_path, [study("A", **fields), study("B")])) as atlas:
        good = {f"S{i}": [f"G{i}"] for i in range(5)}
        signatures: dict[str, Any] = {"none": ["NOSUCH"]} | good | {"no": []}
        ask = {"group_by": ("tissue", "age", "n")}
        whole = atlas.screen(signatures, **ask).to_table()
        monkeypatch.setattr(screening, "CHUNK_BYTES", 1)
        stream = atlas.screen(signatures, **ask)
        parts = stream.to_table()
    assert [str(row) for row in parts.rows()] == [str(row) for row in whole.rows()]
    assert [c.kind for c in parts.columns.values()] == [c.kind for c in whole.columns.values()]
    assert parts.to_frame().equals(whole.to_frame())
