"""Building: speed, peak memory, bytes; and opening what was built."""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from atlases import Bench, n_postings, size_bytes
from insignia_index import Atlas
from report import Row, Section
from serving import INSIGNIA
from timing import p50, timed


def build(bench: Bench) -> Section:
    """Build an atlas of one large study, in a process of its own."""
    sizes = bench.sizes
    source = bench.h5ad(sizes.one_study)
    path = bench.cache_dir / "atlas-timed"
    shutil.rmtree(path, ignore_errors=True)
    try:
        seconds, peak_bytes = run_measured([INSIGNIA, "build", path, source])
        postings, n_bytes = n_postings(path), size_bytes(path)
        open_s = open_seconds(path, sizes.processes)
    finally:
        shutil.rmtree(path, ignore_errors=True)
    speed = postings / seconds
    rows = [
        Row("the whole command", seconds, "s", f"{sizes.one_study.n_cells / seconds:,.0f} cells/s"),
        Row("postings", speed, "/s"),
        compared(bench, speed),
        Row("peak memory", peak_bytes / 1e9, "GB", at_most=1.5),
        Row("size", n_bytes / postings, "bytes a posting", at_most=4.2),
        Row("open", 1000 * p50(open_s), "ms", at_most=300),
    ]
    return Section(f"`insignia build`: {sizes.one_study}", tuple(rows))


def compared(bench: Bench, speed: float) -> Row:
    """Return how many times faster than create_tiledb `speed`, in postings a second, is."""
    what = "against sc-signature's create_tiledb"
    stem = bench.h5ad(bench.sizes.peer).stem
    report = bench.cache_dir / "peer" / f"signature-{stem}-{bench.sizes.peer.n_cells}" / "build.json"
    if not report.exists():
        return Row(what, None, note="not built: make bench-peer, then --only peer")
    theirs = json.loads(report.read_text())["postings_per_s"]
    note = f"{theirs / 1e6:.2f} M/s on {bench.sizes.peer}, when it was built"
    return Row(what, speed / theirs, "x", note, at_least=20)


# A new process begins with the peak of the one that started it, so that a small one has to stand between.
LAUNCH = """
import os, subprocess, sys
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
_, status, usage = os.wait4(process.pid, 0)
print(usage.ru_maxrss)
sys.exit(os.waitstatus_to_exitcode(status))
"""


def run_measured(command: list[str | Path]) -> tuple[float, int]:
    """Run a command; return its seconds and its peak memory in bytes."""
    began = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", LAUNCH, *command], stdout=subprocess.PIPE, check=True)
    return time.perf_counter() - began, int(done.stdout) * 1024  # Linux counts it in KiB


def open_seconds(path: Path, times: int) -> np.ndarray:
    """Return how long opening an atlas takes, seconds (times,)."""

    def open_it() -> None:
        Atlas.open(path, threads=1).close()

    return np.array([timed(open_it) for _ in range(times)])
