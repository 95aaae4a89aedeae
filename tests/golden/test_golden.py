"""Atlases that earlier versions wrote still give their answers."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from insignia_index import Atlas
from insignia_index.verify import verify_atlas

VERSIONS = sorted(Path(__file__).parent.glob("v*"))


@pytest.fixture(params=VERSIONS, ids=lambda path: path.name)
def golden(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Atlas, dict[str, Any]]]:
    """A copy of a golden atlas, and its answers."""
    shutil.copytree(request.param / "atlas", tmp_path / "atlas")
    verify_atlas(tmp_path / "atlas")
    with Atlas.open(tmp_path / "atlas") as atlas:
        yield atlas, json.loads((request.param / "expected.json").read_text())


def test_there_is_a_golden_atlas_of_the_current_version() -> None:
    from insignia_index.format.layout import FORMAT_VERSION

    assert f"v{FORMAT_VERSION}" in [path.name for path in VERSIONS]


@pytest.mark.parametrize("path", VERSIONS, ids=lambda path: path.name)
def test_a_golden_atlas_is_small(path: Path) -> None:
    assert sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) < 150_000


def test_scores_are_what_they_were(golden: tuple[Atlas, dict[str, Any]]) -> None:
    atlas, expected = golden
    for name, weights in expected["signatures"].items():
        found = atlas.scores(weights).values
        assert (np.abs(found - expected["scores"][name]) <= expected["tolerance"][name]).all()
        result = atlas.search(weights, k=5)
        assert result.n_cells == len(found)
        assert result.cutoff == np.percentile(found.astype(np.float64), 95)
        best = np.argsort(-found, kind="stable")[:5]
        wanted = [(expected["cells"][i]["study"], expected["cells"][i]["cell_id"]) for i in best]
        assert [(row["study"], row["cell_id"]) for row in result.cell_table.rows()] == wanted


def test_metadata_is_what_it_was(golden: tuple[Atlas, dict[str, Any]]) -> None:
    atlas, expected = golden
    cells = expected["cells"]
    table = atlas.cells([(cell["study"], cell["cell_id"]) for cell in cells])
    for found, wanted in zip(table.rows(), cells, strict=True):
        assert found.keys() == wanted.keys()
        for name, value in wanted.items():
            assert found[name] == (pytest.approx(value, rel=1e-12) if isinstance(value, float) else value)
    assert atlas.info().n_postings == expected["n_postings"]
    assert {field.kind for field in atlas.fields()} == {"category", "number", "integer", "bool"}
