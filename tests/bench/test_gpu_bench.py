"""The GPU's benchmark runs on the stand-in, and the atlas that it makes answers as copies would."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import gpu_bench
from atlases import QUICK, Bench
from gpu_atlas import Replica, complete_search
from insignia_index import Atlas
from insignia_index.gpu.engine import DeviceEngine
from insignia_model import SearchRequest

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++ to stand in for the GPU")


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


def test_the_copies_answer_as_the_source_does(cache):
    bench = Bench(QUICK, cache)
    request = SearchRequest.of(bench.gene_lists["20 genes"], k=10)
    engine = DeviceEngine(gpu_bench.maker("emulated", cache), None)
    try:
        with Atlas.open(bench.atlas(QUICK.search), threads=1) as atlas:
            replica = Replica.of(atlas._session.snapshot, 3_000)
            on_device = replica.bring(engine, None)
            units = complete_search(on_device, replica, replica.work(), request)
            scores, groups = atlas.scores(request.signature), atlas.search(request.signature).groups
    finally:
        engine.close()
    assert on_device.n_cells == replica.snapshot.n_cells == 3_000
    copies = np.concatenate([scores.chunks[block].scores for block in replica.copied])
    cutoff = np.percentile(copies.astype(np.float64), 95)
    hits = [int((scores.chunks[block].scores > cutoff).sum()) for block in replica.copied]
    index, counts, figures = units.groups
    assert dict(zip(index.tolist(), counts[1].tolist(), strict=True)) == dict(enumerate(hits))
    means = dict(zip(index.tolist(), figures[1].tolist(), strict=True))
    wanted = dict(zip(groups["study"], groups["mean"], strict=True))
    studies = [chunk.study for chunk in scores.chunks]
    np.testing.assert_allclose(
        [means[i] for i in range(len(hits))], [wanted[studies[b]] for b in replica.copied], rtol=1e-9
    )


def test_every_section_gives_figures(cache):
    figures = cache / "figures.json"
    options = [
        "--device",
        "emulated",
        "--cells",
        "2000",
        "--rounds",
        "2",
        "--cache-dir",
        cache,
        "--json",
        figures,
    ]
    done = subprocess.run(
        [sys.executable, gpu_bench.__file__, *options], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "emulated: 2,100 cells" in done.stdout
    rows = json.loads(figures.read_text())["rows"]
    assert len({row["section"] for row in rows}) == 3
    assert all(row["number"] > 0 for row in rows)


@pytest.mark.parametrize("device", ["cuda:99", "cpu"])
def test_without_a_gpu_it_says_so(device):
    command = [sys.executable, Path(gpu_bench.__file__), "--device", device]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1
    assert device in done.stderr
    assert "Traceback" not in done.stderr
