"""Attribution data of any size, resampled and mixed from real cells, for measuring at scale.

    python benchmarks/scale_data.py --cells 200000 --studies 40

Every new cell is a convex mix of one to three real cells of one stratum (source study, condition, cell type),
thinned to a drawn number of genes, multiplied by lognormal noise and rescaled to sum 1000. So genes keep real
densities, values and co-occurrence. The labels of studies, samples and diseases are invented.
"""

import argparse
import hashlib
import itertools
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anndata
import h5py
import numba
import numpy as np
import pandas as pd
import scipy.sparse as sp

VERSION = 1  # part of a cached file's name: raise it when the same arguments would give other cells
SAMPLES_PER_STUDY = 10
CHUNK_CELLS = 8192  # under 200 MB of buffers; each chunk has its own random stream
MAX_PARENTS = 3
ROW_SUM = 1000.0
TARGET_GENES = 1400.0  # median draw; many a mix has fewer genes and keeps them all: the mean is near 1,300
KEPT_BY_VALUE = 0.6  # share of the target given to the largest values; the rest is drawn, like drop-out
NOISE_SD = 0.25
CACHE_DIR = Path(__file__).resolve().parent / ".cache"
TEST_DATA = Path(__file__).resolve().parents[1] / "tests" / "data"
DISEASES = ["COVID-19", "Crohn's disease", "lupus", "multiple sclerosis", "sepsis", "type 2 diabetes"]

Array = np.ndarray[Any, np.dtype[Any]]
Triple = tuple[Array, Array, Array]
Sources = Sequence[str | Path] | None


@dataclass(frozen=True)
class Source:
    """Real cells; each stratum is one run of rows."""

    matrix: sp.csr_matrix  # (n_cells, n_genes) float32, indices sorted
    genes: "pd.Index[str]"
    strata: pd.DataFrame  # one row a stratum: study, condition, cell_type, tissue, start, n_cells


def source_files(sources: Sources) -> list[Path]:
    """Return the .h5ad files under `sources`, else under $INSIGNIA_DATA, else those that the tests carry."""
    roots = [Path(s) for s in sources] if sources else [Path(os.environ.get("INSIGNIA_DATA") or TEST_DATA)]
    files: list[Path] = []
    for root in roots:
        # $INSIGNIA_DATA is a data root; expression/ beside attributions/ holds counts of the same cells
        folder = root / "attributions" if (root / "attributions").is_dir() else root
        files += [root] if root.is_file() else sorted(folder.glob("*.h5ad"))
    if not files:
        places = ", ".join(map(str, roots))
        raise FileNotFoundError(f"no attribution .h5ad under {places}: pass --source or set INSIGNIA_DATA")
    return files


def load_source(files: Sequence[Path]) -> Source:
    """Read all cells of `files`, ordered by stratum. ValueError if their genes differ."""
    parts = [anndata.read_h5ad(file) for file in files]
    genes = parts[0].var_names
    for file, part in zip(files, parts, strict=True):
        if not part.var_names.equals(genes):
            raise ValueError(f"{file}: var index differs from {files[0]}: all sources need the same genes")
    keys = ["study", "condition", "cell_type", "tissue"]
    obs = pd.concat([part.obs[keys].astype(str) for part in parts], ignore_index=True)
    order = obs.sort_values(keys, kind="stable").index.to_numpy()
    matrix = sp.vstack([part.X for part in parts], format="csr", dtype=np.float32)[order]
    matrix.eliminate_zeros()
    matrix.sort_indices()
    strata = obs.groupby(keys).size().rename("n_cells").reset_index()
    strata["start"] = np.cumsum(strata["n_cells"]) - strata["n_cells"]
    return Source(matrix, genes, strata)


@numba.njit(nogil=True, cache=True)
def merge_rows(rows: Array, shares: Array, matrix: Triple, genes: Array, values: Array) -> int:
    """Write the sum of shares x rows (-1 = none) of a CSR matrix, gene ids ascending; return its length."""
    indptr, indices, data = matrix
    head, end = np.zeros(len(rows), np.int64), np.zeros(len(rows), np.int64)
    for j in range(len(rows)):
        if rows[j] >= 0:
            head[j], end[j] = indptr[rows[j]], indptr[rows[j] + 1]
    length = 0
    while True:
        gene = np.iinfo(np.int32).max
        for j in range(len(rows)):
            if head[j] < end[j]:
                gene = min(gene, indices[head[j]])
        if gene == np.iinfo(np.int32).max:
            return length
        value = 0.0
        for j in range(len(rows)):
            if head[j] < end[j] and indices[head[j]] == gene:
                value += shares[j] * data[head[j]]
                head[j] += 1
        genes[length], values[length] = gene, value
        length += 1


@numba.njit(nogil=True, cache=True)
def thin_row(rng: np.random.Generator, target: int, genes: Array, values: Array) -> int:
    """Keep about target genes of a row, add noise and rescale to ROW_SUM, in place; return the new length."""
    cut, chance = np.float32(-1.0), 1.0
    if target < len(values):
        n_top = int(KEPT_BY_VALUE * target)
        cut = np.partition(values, len(values) - n_top - 1)[len(values) - n_top - 1]
        chance = (target - n_top) / (len(values) - n_top)
    length, total = 0, 0.0
    for k in range(len(values)):
        if values[k] > cut or rng.random() < chance:
            genes[length], values[length] = genes[k], values[k] * np.exp(NOISE_SD * rng.standard_normal())
            total += values[length]
            length += 1
    for k in range(length):
        values[k] *= ROW_SUM / total
    return length


@numba.njit(nogil=True, cache=True)
def mix_cells(rng: np.random.Generator, recipe: Triple, matrix: Triple, out: Triple) -> int:
    """Write the cells of recipe = parents (n, 3), shares (n, 3), targets (n,) one after the other.

    out = row lengths (n,), gene ids, values; the last two have room for the sum of the parents' lengths.
    Returns how much of it is used.
    """
    parents, shares, targets = recipe
    counts, genes, values = out
    used = 0
    for i in range(len(parents)):
        stop = used + merge_rows(parents[i], shares[i], matrix, genes[used:], values[used:])
        counts[i] = thin_row(rng, targets[i], genes[used:stop], values[used:stop])
        used += counts[i]
    return used


def sample_table(source: Source, n_studies: int) -> pd.DataFrame:
    """Tabulate the samples: labels (None = missing) and `pool`, the ids of the strata that give the cells.

    Disease and condition cross inside a study: neither stands for the other.
    """
    origins = [strata for _, strata in source.strata.groupby("study")]
    rows = []
    for study, k in itertools.product(range(n_studies), range(SAMPLES_PER_STUDY)):
        # a study is of one tissue, unless there are too few studies to show every source
        origin = origins[(study + (k if n_studies < len(origins) else 0)) % len(origins)]
        conditions = origin["condition"].unique()
        condition = conditions[k // 2 % len(conditions)]
        disease = "normal" if k % 2 == 0 else DISEASES[study % len(DISEASES)]
        row = {"study": f"study_{study:04d}", "sample": f"study_{study:04d}.s{k:02d}"}
        row["condition"] = None if study % 7 == 6 else condition
        row["tissue"] = None if study % 11 == 10 else origin["tissue"].iloc[0]
        row["disease"] = None if study % 5 == 4 and k == SAMPLES_PER_STUDY - 1 else disease
        row["pool"] = origin.index[origin["condition"] == condition].to_numpy()
        rows.append(row)
    return pd.DataFrame(rows)


def plan_cells(source: Source, samples: pd.DataFrame, n_cells: int, seed: int) -> tuple[Array, Array]:
    """Draw sample int32 and stratum int16 of n_cells cells: studies contiguous, samples shuffled inside."""
    rng = np.random.default_rng([seed, 0])
    bounds = np.linspace(0, n_cells, len(samples) // SAMPLES_PER_STUDY + 1).astype(np.int64)
    sample_of, stratum_of = np.empty(n_cells, np.int32), np.empty(n_cells, np.int16)
    n_real = source.strata["n_cells"].to_numpy()
    for study, (first, stop) in enumerate(itertools.pairwise(bounds)):
        local = rng.choice(SAMPLES_PER_STUDY, stop - first, p=rng.dirichlet(np.full(SAMPLES_PER_STUDY, 10.0)))
        local[:SAMPLES_PER_STUDY] = np.arange(min(len(local), SAMPLES_PER_STUDY))  # none without a cell
        rng.shuffle(local)
        sample_of[first:stop] = study * SAMPLES_PER_STUDY + local
        for k in range(SAMPLES_PER_STUDY):
            pool = samples["pool"].iat[study * SAMPLES_PER_STUDY + k]
            # 40 pseudo-counts: samples differ in composition about as much as donors of one tissue do
            mix = rng.dirichlet(40.0 * n_real[pool] / n_real[pool].sum() + 0.02)
            stratum_of[first:stop][local == k] = rng.choice(pool, np.count_nonzero(local == k), p=mix)
    return sample_of, stratum_of


def chunks(source: Source, stratum_of: Array, seed: int) -> Iterator[Triple]:
    """Yield row lengths int64, gene ids int32 and values float32 of CHUNK_CELLS new cells at a time."""
    start, n_real = source.strata["start"].to_numpy(), source.strata["n_cells"].to_numpy()
    matrix = (source.matrix.indptr, source.matrix.indices, source.matrix.data)
    lengths = np.append(np.diff(source.matrix.indptr), 0)  # the last one is for parent -1
    for number, first in enumerate(range(0, len(stratum_of), CHUNK_CELLS)):
        rng = np.random.default_rng([seed, 1, number])
        stratum = stratum_of[first : first + CHUNK_CELLS, None]
        n = len(stratum)
        parents = start[stratum] + (rng.random((n, MAX_PARENTS)) * n_real[stratum]).astype(np.int64)
        n_parents = rng.choice(MAX_PARENTS, size=(n, 1), p=[0.1, 0.35, 0.55]) + 1
        parents[np.arange(MAX_PARENTS) >= n_parents] = -1
        shares = rng.exponential(size=parents.shape) * (parents >= 0)
        shares /= shares.sum(axis=1, keepdims=True)
        targets = (TARGET_GENES * rng.lognormal(0.0, 0.3, n)).astype(np.int64)
        room = lengths[parents].sum()
        counts, genes, values = np.empty(n, np.int64), np.empty(room, np.int32), np.empty(room, np.float32)
        used = mix_cells(rng, (parents, shares, targets), matrix, (counts, genes, values))
        yield counts, genes[:used], values[:used]


def barcodes(n_cells: int) -> Array:
    """Return distinct 16-letter barcodes (n_cells,), in no order, as sequencers give them."""
    scrambled = np.arange(1, n_cells + 1, dtype=np.uint32) * np.uint32(2654435761)  # odd, so a bijection
    codes = (scrambled[:, None] >> np.arange(0, 32, 2, dtype=np.uint32)) & np.uint32(3)
    return np.frombuffer(b"ACGT", np.uint8)[codes].view("S16").ravel().astype(str).astype(object)


def obs_table(source: Source, samples: pd.DataFrame, plan: tuple[Array, Array], seed: int) -> pd.DataFrame:
    """Label the planned cells; 2 % of them lack a type, some samples and studies lack other fields."""
    sample_of, stratum_of = plan
    rng = np.random.default_rng([seed, 2])
    obs = pd.DataFrame(index=pd.Index(barcodes(len(sample_of)), name="cell_id"))
    for field in ("study", "sample", "disease", "tissue", "condition"):
        values = pd.Categorical(samples[field])
        obs[field] = pd.Categorical.from_codes(values.codes[sample_of], values.categories)
    types = pd.Categorical(source.strata["cell_type"])
    codes = np.where(rng.random(len(obs)) < 0.02, -1, types.codes[stratum_of])
    obs["cell_type"] = pd.Categorical.from_codes(codes, types.categories)
    return obs


def write_matrix(file: h5py.File, source: Source, stratum_of: Array, seed: int) -> Array:
    """Stream the new cells into /X as AnnData encodes a csr_matrix; return the row lengths (n_cells,)."""
    group = file.create_group("X")
    shape = [len(stratum_of), len(source.genes)]
    group.attrs.update({"encoding-type": "csr_matrix", "encoding-version": "0.1.0", "shape": shape})
    # the length is not known before the end, hence chunked: 1 MiB, which fits h5py's chunk cache
    layout = {"maxshape": (None,), "chunks": (1 << 18,)}
    stored = [group.create_dataset(k, (0,), t, **layout) for k, t in (("indices", "i4"), ("data", "f4"))]
    counts, nnz = [], 0
    for new_counts, *new in chunks(source, stratum_of, seed):
        stop = nnz + len(new[0])
        for dataset, values in zip(stored, new, strict=True):
            dataset.resize((stop,))
            dataset[nnz:stop] = values
        counts.append(new_counts)
        nnz = stop
    n_genes = np.concatenate(counts)
    # scipy keeps int32 until it no longer fits, and so does AnnData
    indptr_type = np.int32 if nnz <= np.iinfo(np.int32).max else np.int64
    group["indptr"] = np.concatenate([[0], np.cumsum(n_genes)]).astype(indptr_type)
    return n_genes


def scale_file(
    n_cells: int, n_studies: int, *, seed: int = 0, sources: Sources = None, cache_dir: Path = CACHE_DIR
) -> Path:
    """Return an .h5ad of `n_cells` cells in `n_studies` equal studies of 10 samples; made once, then cached.

    Same arguments, same source bytes, same VERSION: same cells. Memory does not grow with the postings.
    """
    if not 1 <= n_studies <= n_cells < 1 << 32:
        raise ValueError(f"need 1 <= studies <= cells < 2**32, got {n_studies} studies and {n_cells} cells")
    files = source_files(sources)
    # the sources are small (below 100 MB), so their bytes can name the file that they give
    digest = hashlib.blake2b(b"".join(file.read_bytes() for file in files), digest_size=4).hexdigest()
    path = cache_dir / f"scale-{n_cells}x{n_studies}-seed{seed}-v{VERSION}-{digest}.h5ad"
    if path.exists():
        return path
    source = load_source(files)
    samples = sample_table(source, n_studies)
    plan = plan_cells(source, samples, n_cells, seed)
    cache_dir.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}.partial")
    try:
        with h5py.File(partial, "w") as file:
            file.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
            n_genes = write_matrix(file, source, plan[1], seed)
            obs = obs_table(source, samples, plan, seed).assign(n_genes=n_genes.astype(np.float32))
            anndata.io.write_elem(file, "obs", obs)
            anndata.io.write_elem(file, "var", pd.DataFrame(index=source.genes))
            recipe = {"scale_data": {"version": VERSION, "seed": seed, "sources": digest}}
            anndata.io.write_elem(file, "uns", recipe)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, required=True)
    parser.add_argument("--studies", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--source", nargs="+", help="files or folders; else $INSIGNIA_DATA, else tests/data")
    parser.add_argument("--cache-dir", type=Path, default=CACHE_DIR)
    args = parser.parse_args()
    print(scale_file(args.cells, args.studies, seed=args.seed, sources=args.source, cache_dir=args.cache_dir))


if __name__ == "__main__":
    main()
