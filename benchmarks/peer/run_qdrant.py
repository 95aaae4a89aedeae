"""Time the sparse index of qdrant-edge on made attributions: build its shard once, then find the best cells.

    .venv-peer/bin/python benchmarks/peer/run_qdrant.py SCALE.h5ad --cells 50000 --genes lists.json

Prints one JSON object. The score is the dot product with weight 1 for every gene of the list.
"""

import argparse
import json
import os
import shutil
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import qdrant_edge as qdrant
import scipy.sparse as sp
from read_scale import CACHE_DIR, gene_lists, process, read_genes, read_matrix, size_bytes, versions

VECTOR = "attribution"
BATCH_CELLS = 2000  # Python lists of one batch of points: some 200 MB


def insert(shard: qdrant.EdgeShard, matrix: sp.csr_matrix) -> None:
    """Insert every row of matrix as a point whose id is the row."""
    for first in range(0, matrix.shape[0], BATCH_CELLS):
        points = []
        for row in range(first, min(first + BATCH_CELLS, matrix.shape[0])):
            span = slice(matrix.indptr[row], matrix.indptr[row + 1])
            vector = qdrant.SparseVector(matrix.indices[span].tolist(), matrix.data[span].tolist())
            points.append(qdrant.Point(row, {VECTOR: vector}))
        shard.update(qdrant.UpdateOperation.upsert_points(points))


def shard_folder(path: Path, n_cells: int, cache_dir: Path) -> Path:
    """Return where the shard of the first n_cells cells of path is cached."""
    return cache_dir / f"qdrant-{path.stem}-{n_cells}"


def build(path: Path, n_cells: int, cache_dir: Path) -> dict[str, Any]:
    """Build and optimise the shard of the first n_cells cells unless it exists; return what that took."""
    folder = shard_folder(path, n_cells, cache_dir)
    report = folder / "build.json"
    if report.exists():
        return json.loads(report.read_text()) | {"cached": True}
    partial = folder.with_suffix(f".{os.getpid()}.partial")
    (partial / "shard").mkdir(parents=True)
    try:
        matrix = read_matrix(path, n_cells)
        config = qdrant.EdgeConfig(sparse_vectors={VECTOR: qdrant.EdgeSparseVectorParams()})
        began = time.perf_counter()
        shard = qdrant.EdgeShard.create(str(partial / "shard"), config)
        insert(shard, matrix)
        inserted = time.perf_counter()
        shard.optimize()
        shard.flush()
        seconds = time.perf_counter() - began
        info = shard.info()
        shard.close()
        figures = {
            "seconds": seconds,
            "insert_s": inserted - began,
            "n_postings": int(matrix.nnz),
            "postings_per_s": matrix.nnz / seconds,
            "size_bytes": size_bytes(partial),
            "n_segments": info.segments_count,
            "n_indexed": info.indexed_vectors_count,
            **process(),
        }
        (partial / "build.json").write_text(json.dumps(figures))
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return figures | {"cached": False}


def search(shard: qdrant.EdgeShard, gene_ids: list[int], n_best: int) -> list[qdrant.ScoredPoint]:
    """Return the n_best cells by the sum over gene_ids; building the request is part of the work."""
    query = qdrant.Query.Nearest(qdrant.SparseVector(gene_ids, [1.0] * len(gene_ids)), using=VECTOR)
    return shard.search(qdrant.SearchRequest(query, limit=n_best))


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Build or open the shard, search with every gene list, and return the figures."""
    genes = read_genes(args.scale_file)
    column = {gene: i for i, gene in enumerate(genes)}
    built = build(args.scale_file, args.cells, args.cache_dir)
    shard = qdrant.EdgeShard.load(str(shard_folder(args.scale_file, args.cells, args.cache_dir) / "shard"))
    lists = {}
    for name, symbols in gene_lists(args.genes, genes):
        gene_ids = [column[symbol] for symbol in symbols]
        best = search(shard, gene_ids, args.top)  # also the warm-up
        seconds = []
        for _ in range(args.repeats):
            began = time.perf_counter()
            best = search(shard, gene_ids, args.top)
            seconds.append(time.perf_counter() - began)
        lists[name] = {"n_genes": len(symbols), "top_s": statistics.median(seconds), "n_best": len(best)}
        if args.dump:
            args.dump.mkdir(parents=True, exist_ok=True)
            scores = np.array([point.score for point in best], np.float32)
            np.savez(args.dump / f"{name}.npz", cells=np.array([point.id for point in best]), scores=scores)
    shard.close()
    return {
        "package": "qdrant-edge-py",
        "versions": versions("qdrant-edge-py"),
        "n_cells": args.cells,
        "top": args.top,
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
    parser.add_argument("--top", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=21)
    parser.add_argument("--dump", type=Path, help="folder for the best cells and their scores")
    parser.add_argument("--cache-dir", type=Path, default=CACHE_DIR)
    print(json.dumps(run(parser.parse_args())))


if __name__ == "__main__":
    main()
