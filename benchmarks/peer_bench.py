"""Beside the packages that do this today, on the same cells, each in a process of its own on one core."""

import json
import statistics
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from atlases import ROOT, Bench
from report import Row, Section, ratio
from timing import one_core

BENCHMARKS = Path(__file__).resolve().parent
PEER_PYTHON = ROOT / ".venv-peer" / "bin" / "python"
LISTS = ("MS1", "86 genes")


def peer(bench: Bench) -> Section:
    """Run ours, sc-signature, ours, qdrant-edge, and again; compare the medians of the runs."""
    sizes = bench.sizes
    title = f"Beside other packages, one core: {sizes.peer}"
    if not PEER_PYTHON.exists():
        return Section(
            title, (Row("sc-signature, qdrant-edge", None, note="not installed: make bench-peer"),)
        )
    source, atlas = bench.h5ad(sizes.peer), bench.atlas(sizes.peer)
    with TemporaryDirectory() as folder:
        genes = bench.write_gene_lists(Path(folder, "lists.json"))
        theirs = [source, "--cells", str(sizes.peer.n_cells), "--cache-dir", bench.cache_dir / "peer"]
        ours = [sys.executable, BENCHMARKS / "run_ours.py", atlas]
        signature = [PEER_PYTHON, BENCHMARKS / "peer" / "run_signature.py", *theirs]
        qdrant = [PEER_PYTHON, BENCHMARKS / "peer" / "run_qdrant.py", *theirs]
        for command in (signature, qdrant):  # their arrays are built here, on all cores, unless they exist
            figures([*command, "--repeats", "1"], genes, prefix=[])
        runs: dict[str, list[dict[str, Any]]] = {"ours": [], "signature": [], "qdrant": []}
        for _ in range(sizes.peer_rounds):
            for other, command in (("signature", signature), ("qdrant", qdrant)):
                runs["ours"].append(figures(ours, genes))
                runs[other].append(figures(command, genes))
    rows = [row for name in LISTS for row in compared(name, runs)]
    return Section(title, (*rows, *built(runs)))


def figures(command: list[Any], genes: Path, prefix: list[str] | None = None) -> dict[str, Any]:
    """Return the JSON object that a timing script prints, kept on one core unless `prefix` says otherwise."""
    pinned = one_core() if prefix is None else prefix
    done = subprocess.run(
        [*pinned, *map(str, command), "--genes", str(genes)], check=True, stdout=subprocess.PIPE, text=True
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def compared(name: str, runs: dict[str, list[dict[str, Any]]]) -> list[Row]:
    """Return the rows of one gene list."""

    def median(package: str, part: str) -> float:
        return statistics.median(run["lists"][name][part] for run in runs[package])

    ours, signature, top = (
        median("ours", "total_s"),
        median("signature", "total_s"),
        median("qdrant", "top_s"),
    )
    parts = ", ".join(
        f"{label} {1000 * median('signature', key):.0f} ms"
        for label, key in (("query", "query_s"), ("hits", "hits_s"), ("samples", "samples_s"))
    )
    return [
        Row(f"{name}: ours, complete search", 1000 * ours, "ms"),
        Row(f"{name}: sc-signature, query + hits + samples", 1000 * signature, "ms", parts),
        ratio(f"{name}: sc-signature against ours", signature, ours, at_least=300),
        Row(f"{name}: qdrant-edge, top-100 only", 1000 * top, "ms"),
        ratio(f"{name}: qdrant-edge against ours", top, ours, at_least=2),
    ]


def built(runs: dict[str, list[dict[str, Any]]]) -> list[Row]:
    """Return what the compared packages' indexes took."""
    rows = []
    for package, label in (("signature", "sc-signature"), ("qdrant", "qdrant-edge")):
        build = runs[package][0]["build"]
        size = build["size_bytes"] / build["n_postings"]
        note = f"{build['postings_per_s'] / 1e6:.2f} M postings/s, {size:.1f} bytes a posting"
        rows.append(Row(f"build by {label}", build["seconds"], "s", note))
    return rows
