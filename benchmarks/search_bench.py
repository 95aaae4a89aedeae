"""Embedded searches: by number of genes and threads, beside scipy and beside a read of the same bytes."""

import h5py
import numpy as np
import scipy.sparse as sp
from anndata.io import read_elem

from atlases import Bench, Scale
from cores import second_thread
from insignia_index import Atlas
from insignia_index.format.layout import BITMAP, BLOCK_CELLS, FULL, LIST, container_bytes
from report import Row, Section, milliseconds, ratio
from timing import interleaved, n_cores, p50

HALF_BYTES = 2  # float16, what an atlas stores unless told otherwise


def threads_of(n_threads: int) -> str:
    """Return a number of threads as text."""
    return "one thread" if n_threads == 1 else f"{n_threads} threads"


def search(bench: Bench) -> Section:
    """Time the complete search on one and on two threads."""
    sizes, rows = bench.sizes, []
    with Atlas.open(bench.atlas(sizes.search), threads=2) as atlas:
        for name in bench.gene_lists:
            request = bench.request(name)
            ways = {n: lambda n=n, request=request: atlas.run(request, threads=n) for n in (1, 2)}
            seconds = interleaved(ways, sizes.rounds, sizes.in_a_row)
            n_genes = len(request.signature)
            label = name if name.endswith("genes") else f"{name} ({n_genes} genes)"
            rows += [milliseconds(f"{label}, {threads_of(n)}", seconds[n]) for n in ways]
            least = 1.7 if n_genes >= 80 and n_cores() >= 2 else None
            rows.append(
                ratio(f"{label}, two threads against one", p50(seconds[1]), p50(seconds[2]), at_least=least)
            )
    rows += second_thread(sizes.rounds)
    return Section(f"Complete search, embedded: {sizes.search}", tuple(rows))


def scipy(bench: Bench) -> Section:
    """Time the complete search beside scipy's scores alone, and beside reading as many bytes."""
    sizes, rows = bench.sizes, []
    matrix, block_of_cell = read_csc(bench.h5ad(sizes.search))
    columns = gene_columns(bench.h5ad(sizes.search))
    with Atlas.open(bench.atlas(sizes.search), threads=1) as atlas:
        for name in ("MS1", "86 genes"):
            request = bench.request(name)
            ids = np.array([columns[gene] for gene in request.signature.genes])
            n_bytes, n_postings = touched(matrix, ids, block_of_cell)
            buffer = np.ones(n_bytes // 8, np.uint64)
            ways = {
                "ours": lambda request=request: atlas.run(request, threads=1),
                "scipy": lambda ids=ids: matrix[:, ids] @ np.full(len(ids), 1 / len(ids), np.float32),
                "read": buffer.sum,
            }
            seconds = interleaved(ways, sizes.rounds, sizes.in_a_row)
            per_cell = n_postings / sizes.search.n_cells
            rows += [
                milliseconds(
                    f"{name}: complete search", seconds["ours"], note=f"{per_cell:.1f} postings a cell"
                ),
                milliseconds(f"{name}: scipy CSC slice, scores only", seconds["scipy"]),
                ratio(f"{name}: scipy against ours", p50(seconds["scipy"]), p50(seconds["ours"]), at_least=3),
                milliseconds(
                    f"{name}: read of the touched bytes",
                    seconds["read"],
                    note=f"{n_bytes / 1e6:.1f} MB, {n_bytes / n_postings:.2f} bytes a posting",
                ),
                Row(f"{name}: postings", n_postings / p50(seconds["ours"]), "/s"),
            ]
    return Section(f"Beside scipy, one thread: {sizes.search}", tuple(rows))


def large(bench: Bench) -> Section:
    """Time the complete search on as many cells as were asked for."""
    scale = bench.sizes.large or Scale(0, 0)
    rows = []
    with Atlas.open(bench.atlas(scale), threads=2) as atlas:
        for name in ("MS1", "86 genes"):
            request = bench.request(name)
            ways = {n: lambda n=n, request=request: atlas.run(request, threads=n) for n in (1, 2)}
            seconds = interleaved(ways, max(2, bench.sizes.rounds // 10), bench.sizes.in_a_row)
            rows += [milliseconds(f"{name}, {threads_of(n)}", seconds[n]) for n in ways]
    return Section(f"Complete search, embedded: {scale}", tuple(rows))


def read_csc(path: str) -> tuple[sp.csc_matrix, np.ndarray]:
    """Return the attributions by gene, float32, and the number of each cell's block (n_cells,)."""
    with h5py.File(path) as file:
        x = file["X"]
        parts = (x["data"][:], x["indices"][:], x["indptr"][:])
        matrix = sp.csr_matrix(parts, shape=tuple(x.attrs["shape"])).tocsc()
        study = file["obs/study/codes"][:].astype(np.int64)
    first = np.searchsorted(study, study)  # studies are contiguous and in order
    within = (np.arange(len(study)) - first) // BLOCK_CELLS
    blocks = study * (1 + within.max()) + within
    return matrix, np.unique(blocks, return_inverse=True)[1]


def gene_columns(path: str) -> dict[str, int]:
    """Return the column of every gene."""
    with h5py.File(path) as file:
        return {gene: i for i, gene in enumerate(read_elem(file["var"]).index)}


def touched(matrix: sp.csc_matrix, ids: np.ndarray, block_of_cell: np.ndarray) -> tuple[int, int]:
    """Return bytes and postings of these genes' containers, each of which is the smallest of its kinds."""
    n_cells = np.bincount(block_of_cell)
    n_bytes = n_postings = 0
    for gene in ids:
        rows = matrix.indices[matrix.indptr[gene] : matrix.indptr[gene + 1]]
        counts = np.bincount(block_of_cell[rows], minlength=len(n_cells))
        n_postings += len(rows)
        n_bytes += sum(
            min(container_bytes(kind, int(n), int(cells), HALF_BYTES) for kind in (LIST, BITMAP, FULL))
            for n, cells in zip(counts, n_cells, strict=True)
            if n
        )
    return n_bytes, n_postings
