"""Every kind of container, at every awkward size, is written as the format says and scored right."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from insignia_index import Atlas
from insignia_index.catalog.catalog import open_catalog
from insignia_index.catalog.store import Store
from insignia_index.format.layout import BITMAP, FULL, LIST
from insignia_index.format.reader import Shard
from insignia_index.kernels.directory import ENTRIES, N_ENTRIES, PAYLOAD_BYTES

from .made import Study, blocks_of, build, study
from .oracle import Oracle

DENSITIES = np.array([0.0, 0.01, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9, 0.97, 1.0] * 3)


def entries(path: Path) -> list[tuple[int, int]]:
    """(kind, postings) of every container of an atlas."""
    store = Store(path)
    view, catalog = open_catalog(store)
    found = []
    for record in catalog.studies:
        shard = Shard(path / "shards" / record.shard, record.files)
        for row in shard.table:
            at = row[ENTRIES] - shard._bytes.ctypes.data
            raw = shard._bytes[at : at + 8 * row[N_ENTRIES]].view("<u8")
            found += [(int(entry >> 16) & 3, int(entry & 0xFFFF) + 1) for entry in raw.tolist()]
    view.close()
    store.close()
    return found


def made_of(n_cells: int) -> Study:
    return study("A", n_cells, len(DENSITIES), density=DENSITIES, signed=True, seed=n_cells)


@pytest.mark.parametrize("value_dtype", ["float16", "float32"])
def test_lists_bitmaps_and_full_columns_all_occur_and_are_the_smallest(
    tmp_path: Path, value_dtype: str
) -> None:
    path = build(tmp_path, [made_of(1000)], value_dtype=value_dtype)
    size = {"float16": 2, "float32": 4}[value_dtype]
    found = entries(path)
    assert {kind for kind, _ in found} == {LIST, BITMAP, FULL}
    for kind, count in found:
        sizes = {LIST: count * (size + 2), BITMAP: 128 + count * size, FULL: 1000 * size}
        assert sizes[kind] <= min(sizes.values()) + 3  # padding
    assert sum(count for _, count in found) == np.count_nonzero(made_of(1000).values)


@pytest.mark.parametrize("value_dtype", ["float16", "float32"])
@pytest.mark.parametrize("n_cells", [1, 2, 15, 16, 17, 31, 32, 33, 47, 48, 64, 100, 1025])
def test_scores_are_right_for_every_number_of_cells(tmp_path: Path, value_dtype: str, n_cells: int) -> None:
    made = made_of(n_cells)
    oracle = Oracle([made])
    with Atlas.open(build(tmp_path, [made], value_dtype=value_dtype)) as atlas:
        # one gene, one vector step of genes, some more, all
        for n_genes in (1, 3, 8, 9, 20, 33):
            weights = {f"G{i}": 1.5 - i / 7 for i in range(n_genes)}
            error = np.abs(atlas.scores(weights).values - oracle.scores(weights))
            assert (error <= oracle.tolerance(weights, "mean", value_dtype)).all()


def test_a_study_of_more_cells_than_a_block_has_blocks(tmp_path: Path) -> None:
    n_cells = 65_536 + 5_000
    made = study("A", n_cells, 4, density=[0.01, 0.4, 1.0, 0.0])
    path = build(tmp_path, [made, study("B", 10, 4)])
    oracle = Oracle([made, study("B", 10, 4)])
    weights = {f"G{i}": i + 1.0 for i in range(4)}
    with Atlas.open(path, threads=2) as atlas:
        assert len(atlas._session.snapshot.table) == 3
        scores = atlas.scores(weights).values
        assert (np.abs(scores - oracle.scores(weights)) <= oracle.tolerance(weights, "mean", "float16")).all()
        last = atlas.cells([("A", f"c{n_cells - 1}")])
        assert next(iter(last.rows()))["sample"] == f"A-s{(n_cells - 1) // 10}"


def test_a_block_is_closed_early_at_its_limit_of_postings(tmp_path: Path) -> None:
    made = [study("A", 100, 10, density=1.0), study("B", 3, 10)]
    with pytest.MonkeyPatch.context() as patch, blocks_of(32):
        patch.setattr("insignia_index.build.study.BLOCK_POSTINGS", 200)  # a chunk of 16 cells has 160
        path = build(tmp_path, made)
    oracle = Oracle(made)
    with Atlas.open(path) as atlas:
        table = atlas._session.snapshot.table
        assert len(table) == 7
        assert table[:, PAYLOAD_BYTES].max() <= 400
        assert np.allclose(atlas.scores(["G3"]).values, oracle.scores({"G3": 1}), rtol=1e-3)


def test_cells_and_genes_without_a_posting_score_zero(tmp_path: Path) -> None:
    made = study("A", 20, 5).with_(values=np.zeros((20, 5), np.float32))
    with Atlas.open(build(tmp_path, [made])) as atlas:
        result = atlas.search(["G0", "G4"], k=3)
        assert (atlas.scores(["G1"]).values == 0).all()
    assert result.cells["cell_id"].tolist() == ["c0", "c1", "c2"]
    assert (result.cutoff, result.n_hits) == (0, 0)


def test_values_of_very_different_size_keep_their_precision(tmp_path: Path) -> None:
    made = study("A", 60, ["tiny", "huge", "both"], density=1.0)
    scale = np.array([1e-25, 1e30, 1.0]) * np.where(np.arange(60) % 2, 1.0, 1e-5)[:, None]
    made = made.with_(values=(made.values * scale).astype(np.float32))
    with Atlas.open(build(tmp_path, [made])) as atlas:
        for gene in made.genes:
            wanted = made.values[:, list(made.genes).index(gene)]
            np.testing.assert_allclose(atlas.scores([gene]).values, wanted, rtol=1e-3)


def test_a_processor_without_vector_instructions_gives_the_same_scores(tmp_path: Path) -> None:
    made = [made_of(n_cells).with_(name=f"S{n_cells}") for n_cells in (100, 333)]
    answers = {}
    for value_dtype in ("float16", "float32"):
        path = build(tmp_path, made, atlas=value_dtype, value_dtype=value_dtype)
        with Atlas.open(path) as atlas:
            answers[value_dtype] = atlas.scores({f"G{i}": 1 + i / 3 for i in range(33)}).values.tolist()
    environment = os.environ | {"NUMBA_CPU_NAME": "generic", "NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    done = subprocess.run(
        [sys.executable, "-c", PLAIN, str(tmp_path)],
        env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert json.loads(done.stdout) == answers


PLAIN = """
import json, pathlib, sys
import llvmlite.binding
llvmlite.binding.get_host_cpu_features = dict
from insignia_index import Atlas
from insignia_index.kernels.memory import HAS_EXPAND, HAS_HALF
assert not HAS_EXPAND
answers = {}
for value_dtype in ("float16", "float32"):
    with Atlas.open(pathlib.Path(sys.argv[1]) / value_dtype, threads=1) as atlas:
        answers[value_dtype] = atlas.scores({f"G{i}": 1 + i / 3 for i in range(33)}).values.tolist()
print(json.dumps(answers))
"""
