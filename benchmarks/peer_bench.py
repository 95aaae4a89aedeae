"""Beside the packages that do this today, on the same cells, each in a process of its own on one core."""

import json
import statistics
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from atlases import ROOT, Bench, Scale
from report import Row, Section, ratio
from timing import one_core

BENCHMARKS = Path(__file__).resolve().parent
PEER_PYTHON = ROOT / ".venv-peer" / "bin" / "python"
LISTS = ("MS1", "86 genes")


def peer(bench: Bench) -> Section:
    """Run ours and another package's search in turn, on the same cells; compare the medians of the runs."""
    sizes = bench.sizes
    # sc-signature takes minutes and 6.6 GB to build 50,000 cells, qdrant-edge can have as many as we search
    signature, qdrant = Peer("signature", sizes.peer), Peer("qdrant", sizes.search)
    title = f"Beside other packages, one core: {signature.scale}; qdrant-edge: {qdrant.scale}"
    if not PEER_PYTHON.exists():
        return Section(
            title, (Row("sc-signature, qdrant-edge", None, note="not installed: make bench-peer"),)
        )
    with TemporaryDirectory() as folder:
        genes = bench.write_gene_lists(Path(folder, "lists.json"))
        for other in (signature, qdrant):
            other.run(bench, genes)
    rows = [row for name in LISTS for row in compared(name, signature, qdrant)]
    return Section(title, (*rows, built(signature, "sc-signature"), built(qdrant, "qdrant-edge")))


class Peer:
    """A compared package, and the figures of its runs and of ours on the same cells."""

    def __init__(self, name: str, scale: Scale) -> None:
        self.name, self.scale = name, scale
        self.theirs: list[dict[str, Any]] = []
        self.ours: list[dict[str, Any]] = []

    def run(self, bench: Bench, genes: Path) -> None:
        """Measure ours, theirs, ours, theirs, ..."""
        source, cache = bench.h5ad(self.scale), bench.cache_dir / "peer"
        script = BENCHMARKS / "peer" / f"run_{self.name}.py"
        command = [PEER_PYTHON, script, source, "--cells", str(self.scale.n_cells), "--cache-dir", cache]
        ours = [sys.executable, BENCHMARKS / "run_ours.py", bench.atlas(self.scale)]
        # their index is built here, on all cores, unless it exists
        figures([*command, "--repeats", "1"], genes, prefix=[])
        for _ in range(bench.sizes.peer_rounds):
            self.ours.append(figures(ours, genes))
            self.theirs.append(figures(command, genes))

    def median(self, name: str, part: str) -> float:
        """Return the median of their runs, seconds."""
        return statistics.median(run["lists"][name][part] for run in self.theirs)

    def our_median(self, name: str) -> float:
        """Return the median of our complete searches, seconds."""
        return statistics.median(run["lists"][name]["total_s"] for run in self.ours)


def figures(command: list[Any], genes: Path, prefix: list[str] | None = None) -> dict[str, Any]:
    """Return the JSON object that a timing script prints, kept on one core unless `prefix` says otherwise."""
    pinned = one_core() if prefix is None else prefix
    done = subprocess.run(
        [*pinned, *map(str, command), "--genes", str(genes)], check=True, stdout=subprocess.PIPE, text=True
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def compared(name: str, signature: Peer, qdrant: Peer) -> list[Row]:
    """Return the rows of one gene list."""
    theirs, ours = signature.median(name, "total_s"), signature.our_median(name)
    top, ours_beside_top = qdrant.median(name, "top_s"), qdrant.our_median(name)
    parts = ", ".join(
        f"{label} {1000 * signature.median(name, key):.0f} ms"
        for label, key in (("query", "query_s"), ("hits", "hits_s"), ("samples", "samples_s"))
    )
    here, there = (f"{peer.scale.n_cells:,} cells" for peer in (signature, qdrant))
    return [
        Row(f"{name}: ours, complete search, {here}", 1000 * ours, "ms"),
        Row(f"{name}: sc-signature, query + hits + samples", 1000 * theirs, "ms", parts),
        ratio(f"{name}: sc-signature against ours", theirs, ours, at_least=300),
        Row(f"{name}: ours, complete search, {there}", 1000 * ours_beside_top, "ms"),
        Row(f"{name}: qdrant-edge, top-100 only", 1000 * top, "ms"),
        ratio(f"{name}: qdrant-edge against ours", top, ours_beside_top, at_least=2),
    ]


def built(other: Peer, label: str) -> Row:
    """Return what a compared package's index took."""
    build = other.theirs[0]["build"]
    size = build["size_bytes"] / build["n_postings"]
    note = f"{other.scale.n_cells:,} cells, {build['postings_per_s'] / 1e6:.2f} M postings/s"
    return Row(f"build by {label}", build["seconds"], "s", f"{note}, {size:.1f} bytes a posting")
