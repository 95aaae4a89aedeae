"""Making attributions, beside sc-signature on the same cells and model, and the memory that it takes."""

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import anndata
import numpy as np
import scipy.sparse as sp
import torch
from torch import nn

from atlases import Bench, gene_density
from build_bench import run_measured
from insignia_index.attribution import load_model
from peer_bench import BENCHMARKS, PEER_PYTHON
from report import Row, Section, ratio
from scale_data import TEST_DATA
from serving import INSIGNIA

PUBLISHED_WIDTHS = (1024, 1024, 128)  # of SCimilarity's own encoder
ROUNDS = 2
MEMORY_CELLS = (5_000, 20_000)


def attribution(bench: Bench) -> Section:
    """Run ours and sc-signature in turn, on real cells; then our whole command on more of them."""
    judged = bench.sizes.judged
    n_cells = 200 if judged else 10
    made = made_model(bench, PUBLISHED_WIDTHS if judged else (32, 32, 8))
    models = [("as wide as SCimilarity's", made, 30.0)]
    trained = Path(os.environ.get("INSIGNIA_DATA", "/nowhere")) / "model"
    if judged and trained.is_dir():
        models.append(("trained, 256 wide", trained, 40.0))
    rows = [row for name, model, least in models for row in beside(name, model, least, n_cells)]
    for n in MEMORY_CELLS if judged else (100,):
        rows += whole_command(bench, made, n)
    return Section(f"`insignia attribute`: integrated gradients, 50 steps, {n_cells:,} cells", tuple(rows))


def beside(name: str, model: Path, least: float, n_cells: int) -> list[Row]:
    """Return the rows of one model, the medians of runs in turn."""
    with TemporaryDirectory() as folder:
        cells = Path(folder, "cells.npz")
        prepared = load_model(model).prepare(counts(n_cells, read_genes(model)))
        sp.save_npz(cells, prepared)
        ours = [sys.executable, BENCHMARKS / "attribution_ours.py", model, cells, Path(folder, "ours.npz")]
        theirs = [PEER_PYTHON, BENCHMARKS / "peer" / "run_attribution.py", model, cells]
        theirs.append(Path(folder, "theirs.npz"))
        if not PEER_PYTHON.exists():
            seconds = run(ours)
            note = "sc-signature is not installed: make bench-peer"
            return [Row(f"{name}: ours", n_cells / seconds, "cells/s", note)]
        runs: dict[str, list[float]] = {"ours": [], "theirs": []}
        for _ in range(ROUNDS):
            runs["ours"].append(run(ours))
            runs["theirs"].append(run(theirs))
        mine, other = (sp.csr_matrix(sp.load_npz(Path(folder, f"{who}.npz"))) for who in runs)
    fast, slow = (statistics.median(values) for values in runs.values())
    differences = row_norms(mine - other) / row_norms(other)
    note = f"all cells together {sp.linalg.norm(mine - other) / sp.linalg.norm(other):.2g}"
    return [
        Row(f"{name}: ours", n_cells / fast, "cells/s"),
        Row(f"{name}: sc-signature", n_cells / slow, "cells/s"),
        ratio(f"{name}: sc-signature against ours", slow, fast, at_least=least),
        Row(f"{name}: relative difference, median cell", np.median(differences), "", note, at_most=1e-4),
    ]


def row_norms(matrix: sp.csr_matrix) -> np.ndarray:
    """Return the Euclidean norm of every row."""
    return np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=1))).ravel()


def run(command: Sequence[Any]) -> float:
    """Return the seconds that a timing script prints."""
    done = subprocess.run([str(part) for part in command], check=True, stdout=subprocess.PIPE, text=True)
    seconds: float = json.loads(done.stdout)["seconds"]
    return seconds


def whole_command(bench: Bench, model: Path, n_cells: int) -> list[Row]:
    """Return what the command takes from a file of counts to a file of attributions."""
    genes = read_genes(model)
    with TemporaryDirectory(dir=bench.cache_dir) as folder:
        source = Path(folder, "counts.h5ad")
        cells = anndata.AnnData(counts(n_cells, genes))
        cells.var_names = genes
        cells.write_h5ad(source)
        out = Path(folder, "attributions.h5ad")
        command = [INSIGNIA, "attribute", source, "--model", model, "-o", out]
        seconds, peak_bytes = run_measured(command)
    what = f"as wide as SCimilarity's, {n_cells:,} cells"
    return [
        Row(f"{what}: the whole command", seconds, "s", f"{n_cells / seconds:,.0f} cells/s"),
        Row(f"{what}: peak memory", peak_bytes / 1e9, "GB", at_most=3),
    ]


def counts(n_cells: int, genes: list[str]) -> sp.csr_matrix:
    """Return real cells, drawn with repetition, with these genes as columns."""
    root = Path(os.environ.get("INSIGNIA_DATA", "/nowhere")) / "expression"
    files = sorted(root.glob("*.h5ad")) or sorted((TEST_DATA / "counts").glob("*.h5ad"))
    parts = [anndata.read_h5ad(file) for file in files]
    rng = np.random.default_rng(0)
    column = {gene: i for i, gene in enumerate(genes)}
    drawn = []
    for i, part in enumerate(parts):
        n = (n_cells + i) // len(parts)
        known = [(j, column[gene]) for j, gene in enumerate(part.var_names) if gene in column]
        rows, columns = np.array(known).T
        selector = sp.csr_matrix((np.ones(len(rows), np.float32), (rows, columns)), (part.n_vars, len(genes)))
        drawn.append(sp.csr_matrix(part.X)[np.sort(rng.integers(part.n_obs, size=n))] @ selector)
    cells = sp.csr_matrix(sp.vstack(drawn), dtype=np.float32)
    cells.sort_indices()
    return cells


def made_model(bench: Bench, widths: tuple[int, ...]) -> Path:
    """Return a directory with random weights in SCimilarity's layout, of the scale data's genes."""
    folder = bench.cache_dir / f"model-{'-'.join(map(str, widths))}"
    if (folder / "layer_sizes.json").exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    genes, _ = gene_density(bench.h5ad(bench.sizes.search))
    torch.manual_seed(0)
    network: list[nn.Module] = []
    n_in = len(genes)
    for width in widths[:-1]:
        network.append(nn.Sequential(nn.Dropout(), nn.Linear(n_in, width), nn.BatchNorm1d(width), nn.PReLU()))
        n_in = width
    network.append(nn.Linear(n_in, widths[-1]))
    state = {f"network.{name}": value for name, value in nn.ModuleList(network).state_dict().items()}
    torch.save({"state_dict": state}, folder / "encoder.ckpt")
    (folder / "gene_order.tsv").write_text("\n".join(genes) + "\n")
    (folder / "label_ints.csv").write_text("A,0\n0,unlabelled\n")
    sizes = {name: list(value.shape) for name, value in state.items()}
    (folder / "layer_sizes.json").write_text(json.dumps(sizes))
    return folder


def read_genes(model: Path) -> list[str]:
    """Return a model's genes, in its order."""
    return (model / "gene_order.tsv").read_text().split()
