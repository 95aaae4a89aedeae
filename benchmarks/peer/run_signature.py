"""Time sc-signature on made attributions: build its TileDB array once, then query, hits and per-sample table.

    .venv-peer/bin/python benchmarks/peer/run_signature.py SCALE.h5ad --cells 50000 --genes lists.json

Prints one JSON object. Metadata columns are of object dtype, the package's fast case: given categoricals, its
group-bys enumerate every combination of categories (`--categorical` shows it).
"""

import argparse
import contextlib
import json
import os
import shutil
import statistics
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from read_scale import CACHE_DIR, gene_lists, process, read_genes, read_matrix, read_obs, size_bytes, versions
from SIGnature import Meta, SIGnature


def build(path: Path, genes: list[str], n_cells: int, cache_dir: Path) -> tuple[SIGnature, dict[str, Any]]:
    """Return the package's handle on its array of the first n_cells cells, and what building it took."""
    folder = cache_dir / f"signature-{path.stem}-{n_cells}"
    report = folder / "build.json"
    if report.exists():
        figures = json.loads(report.read_text())
        return SIGnature(genes, str(folder / "attributions")), figures | {"cached": True}
    partial = folder.with_suffix(f".{os.getpid()}.partial")
    partial.mkdir(parents=True)
    try:
        matrix = read_matrix(path, n_cells)
        npz = partial / "attributions.npz"
        sp.save_npz(npz, matrix, compressed=False)  # not timed; create_tiledb takes nothing but an .npz
        n_postings = matrix.nnz
        del matrix
        began = time.perf_counter()
        SIGnature(genes).create_tiledb(str(npz), attribution_tiledb_uri=str(partial / "attributions"))
        seconds = time.perf_counter() - began
        npz.unlink()
        figures = {
            "seconds": seconds,
            "n_postings": n_postings,
            "postings_per_s": n_postings / seconds,
            "size_bytes": size_bytes(partial),
            **process(),
        }
        (partial / "build.json").write_text(json.dumps(figures))
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return SIGnature(genes, str(folder / "attributions")), figures | {"cached": False}


def job(
    signature: SIGnature, obs: pd.DataFrame, genes: list[str]
) -> tuple[dict[str, float], Meta, pd.DataFrame]:
    """Run what a user runs for one signature; return seconds per part, the cells and the samples."""
    meta = Meta(obs.copy())  # add_scores and add_hits write into the frame; the copy is not timed
    t0 = time.perf_counter()
    scores = signature.query_attributions(genes)
    t1 = time.perf_counter()
    meta.add_scores({"score": scores})
    meta.add_hits("score")
    t2 = time.perf_counter()
    samples = meta.samphit_df(hit_col="score__hit")
    t3 = time.perf_counter()
    parts = {"query_s": t1 - t0, "hits_s": t2 - t1, "samples_s": t3 - t2, "total_s": t3 - t0}
    return parts, meta, samples


def dump(folder: Path, name: str, meta: Meta, samples: pd.DataFrame) -> None:
    """Write NAME.npz (scores float32, hits bool, both (n_cells,), and the cut-off) and NAME.samples.csv."""
    folder.mkdir(parents=True, exist_ok=True)
    scores = meta.df["score"].to_numpy()
    cutoff = np.percentile(scores, 95.0)
    np.savez(folder / f"{name}.npz", scores=scores, hits=meta.df["score__hit"].to_numpy(), cutoff=cutoff)
    samples.to_csv(folder / f"{name}.samples.csv", index=False)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Build or open the array, run every gene list, and return the figures."""
    genes = read_genes(args.scale_file)
    obs = read_obs(args.scale_file, args.cells)
    if args.categorical:
        obs = obs.astype(dict.fromkeys(obs.select_dtypes(object).columns, "category"))
    signature, built = build(args.scale_file, genes, args.cells, args.cache_dir)
    lists = {}
    for name, symbols in gene_lists(args.genes, genes):
        # also the warm-up
        n_postings = int(signature.query_attributions(symbols, return_aggregate=False).nnz)
        runs = []
        for _ in range(args.repeats):
            parts, meta, samples = job(signature, obs, symbols)
            runs.append(parts)
        medians = {part: statistics.median(r[part] for r in runs) for part in runs[0]}
        n_hits = int(meta.df["score__hit"].sum())
        lists[name] = {"n_genes": len(symbols), "n_postings": n_postings, "n_hits": n_hits, **medians}
        if args.dump:
            dump(args.dump, name, meta, samples)
    return {
        "package": "sc-signature",
        "versions": versions("sc-signature", "tiledb", "numpy", "scipy", "pandas"),
        "n_cells": args.cells,
        "metadata": "category" if args.categorical else "object",
        "repeats": args.repeats,
        "build": built,
        "lists": lists,
        **process(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("scale_file", type=Path, help=".h5ad that scale_data.py made")
    parser.add_argument("--cells", type=int, required=True, help="how many of its first cells")
    parser.add_argument("--genes", type=Path, required=True, help="JSON: {name: [symbol, ...]}")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--dump", type=Path, help="folder for scores, hits and sample tables")
    parser.add_argument("--categorical", action="store_true", help="metadata as pandas categoricals")
    parser.add_argument("--cache-dir", type=Path, default=CACHE_DIR)
    args = parser.parse_args()
    # the package warns at each group-by, and prints while it builds
    warnings.simplefilter("ignore")
    with contextlib.redirect_stdout(sys.stderr):
        figures = run(args)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
