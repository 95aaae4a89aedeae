"""Screens: a library of signatures at once, beside scipy, and what a screen does to searches meanwhile."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import scipy.sparse as sp

from atlases import Bench, gene_density
from insignia_index import Atlas
from insignia_model import read_gmt
from report import Row, Section, milliseconds, ratio
from search_bench import gene_columns, read_csc
from timing import p50, p99, timed

IMMUNE = "msigdb_c7_immunesigdb"
ALL = "msigdb_"
N_MADE, N_MADE_GENES = 4_872, 180  # as many sets as ImmuneSigDB has, of as many known genes
SCIPY_SIGNATURES = 64
THREADS = 2
SEARCHES = 200
CHILD = Path(__file__).with_name("screen_ours.py")


def screen(bench: Bench) -> Section:
    """Time the whole library, with hits per study and sample, beside scipy's scores alone."""
    scale = bench.sizes.search
    library, what = write_library(bench, IMMUNE)
    ours = [run(bench.atlas(scale), library, "hits") for _ in range(2)]
    best = min(ours, key=lambda run: run["seconds"])
    n = best["n_signatures"]
    rate = n * scale.n_cells / best["seconds"]
    name, scipy_rate = scipy_best(bench, library)
    rows = [
        Row(f"{what}, hits and means per study and sample", best["seconds"], "s", f"{n:,} signatures"),
        Row("cells x signatures", rate, "/s", at_least=200e6),
        Row(f"scipy, scores only: {name}", scipy_rate, "/s", f"one core, {SCIPY_SIGNATURES} signatures"),
        ratio("ours against scipy", rate, scipy_rate, at_least=4),
        Row("peak memory", best["peak_bytes"] / 1e9, "GB", at_most=4),
    ]
    everything, what = write_library(bench, ALL)
    means = run(bench.atlas(scale), everything, "means")
    rows.append(
        Row(
            f"{what}, means alone", means["seconds"], "s", f"{means['n_signatures']:,} signatures", at_most=20
        )
    )
    return Section(f"Screen, {THREADS} threads: {scale}", tuple(rows + beside_searches(bench, library)))


def run(atlas: Path, library: Path, how: str) -> dict[str, float]:
    """Return what a screen in a process of its own took: seconds, peak_bytes, n_signatures, n_rows."""
    command = [sys.executable, CHILD, atlas, library, str(THREADS), how]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def write_library(bench: Bench, prefix: str) -> tuple[Path, str]:
    """Return a file {name: genes}, and what it is: MSigDB where the data root has it, else made-up sets."""
    folder = Path(os.environ.get("INSIGNIA_DATA", "/nowhere")) / "signatures"
    files = sorted(folder.glob(f"{prefix}*.gmt*")) if bench.sizes.judged else []
    if files:
        sets = {name: list(s.genes) for file in files for name, s in read_gmt(file).items()}
        what = "ImmuneSigDB" if prefix == IMMUNE else "MSigDB"
    else:
        genes, density = gene_density(bench.h5ad(bench.sizes.search))
        rng = np.random.default_rng(0)
        weights = np.sqrt(density) / np.sqrt(density).sum()
        n_sets = N_MADE if bench.sizes.judged else 20
        drawn = [rng.choice(len(genes), N_MADE_GENES, replace=False, p=weights) for _ in range(n_sets)]
        sets = {f"SET_{i}": [genes[g] for g in ids] for i, ids in enumerate(drawn)}
        what = "random sets"
    path = bench.cache_dir / f"library-{prefix}{len(sets)}.json"
    path.write_text(json.dumps(sets))
    return path, what


def scipy_best(bench: Bench, library: Path) -> tuple[str, float]:
    """Return the better of scipy's ways to score signatures, and its cells x signatures a second."""
    scale = bench.sizes.search
    matrix, _ = read_csc(bench.h5ad(scale))
    columns = gene_columns(bench.h5ad(scale))
    sets = list(json.loads(library.read_text()).values())[:SCIPY_SIGNATURES]
    ids = [np.array(sorted({columns[g] for g in genes if g in columns})) for genes in sets]
    seconds = {"a loop of CSC slices": timed(lambda: _loop(matrix, ids))}
    by_cell, weights = matrix.tocsr(), _weights(ids, matrix.shape[1])
    seconds["X @ Q in blocks"] = timed(lambda: _product(by_cell, weights))
    name = min(seconds, key=lambda way: seconds[way])
    return name, len(ids) * scale.n_cells / seconds[name]


def _loop(matrix: sp.csc_matrix, ids: Sequence[np.ndarray]) -> None:
    for genes in ids:
        matrix[:, genes] @ np.full(len(genes), 1 / len(genes), np.float32)


def _weights(ids: Sequence[np.ndarray], n_genes: int) -> sp.csr_matrix:
    rows = np.concatenate(ids)
    columns = np.repeat(np.arange(len(ids)), [len(genes) for genes in ids])
    values = np.concatenate([np.full(len(genes), 1 / len(genes), np.float32) for genes in ids])
    return sp.csr_matrix((values, (rows, columns)), shape=(n_genes, len(ids)))


def _product(matrix: sp.csr_matrix, weights: sp.csr_matrix, block: int = 20_000) -> None:
    for first in range(0, matrix.shape[0], block):
        (matrix[first : first + block] @ weights).toarray()


def beside_searches(bench: Bench, library: Path) -> list[Row]:
    """Rows about a search of 86 genes while nothing else runs, and while a screen does."""
    sets = json.loads(library.read_text())
    request = bench.request("MS1")
    with Atlas.open(bench.atlas(bench.sizes.search), threads=THREADS) as atlas:
        stop = threading.Event()

        def screen_on() -> None:
            while not stop.is_set():
                for _ in atlas.screen(sets, group_by=("study", "sample")):
                    if stop.is_set():
                        break

        n = SEARCHES if bench.sizes.judged else 5
        atlas.run(request)
        idle = _latencies(atlas, request, n)
        screening = threading.Thread(target=screen_on)
        screening.start()
        time.sleep(2 if bench.sizes.judged else 0.1)  # behind the loading of the genes
        busy = _latencies(atlas, request, n)
        stop.set()
        screening.join()
    limit = 1000 * (3 * p99(idle) + 0.010)
    return [
        milliseconds("search of MS1, nothing else running", idle),
        milliseconds("search of MS1 during a screen", busy),
        Row("p99 during a screen", 1000 * p99(busy), "ms", f"p50 {1000 * p50(busy):.3g} ms", at_most=limit),
    ]


def _latencies(atlas: Atlas, request: object, n: int) -> np.ndarray:
    """Return the seconds of ``n`` searches, a pause between any two, as a person makes."""
    seconds = []
    for _ in range(n):
        seconds.append(timed(lambda: atlas.run(request)))
        time.sleep(0.02)
    return np.array(seconds)
