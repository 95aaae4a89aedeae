"""Writes what sc-signature answers about tests/data, into this folder or another one.

    .venv-peer/bin/python tests/golden/signature/make.py [FOLDER]

It runs in the environment that `make bench-peer` makes, without Insignia. What is committed is the evidence:
a folder that has answers is left alone.
"""

import contextlib
import hashlib
import json
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import scipy.sparse as sp

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parents[2]
sys.path.insert(0, str(PROJECT / "benchmarks" / "peer"))

from read_scale import read_genes, read_matrix, read_obs, versions  # noqa: E402
from SIGnature import Meta, SIGnature  # noqa: E402
from SIGnature.utils import title_name  # noqa: E402

DATA = PROJECT / "tests" / "data"
FILES = ["baron2016.h5ad", "kang2018.h5ad", "pbmc3k.h5ad"]  # in the order of an atlas
SETS = ["HALLMARK_INTERFERON_ALPHA_RESPONSE", "HALLMARK_PANCREAS_BETA_CELLS", "MS1", "BETA_CELL_MARKERS"]
WEIGHTED = {"INS": 1.0, "IAPP": 2.0, "MAFA": 4.0, "NKX6-1": 4.0, "PDX1": 3.0, "DLK1": 0.5, "NOSUCH": 7.0}
SIGNED = {"CD14": 2.0, "LYZ": 1.0, "S100A9": 1.0, "FCN1": 1.5, "CD3E": -1.0, "MS4A1": -0.5}

# The package's table is by the column "disease": ``group`` is what that column is made to say, ``sample`` the
# same of the column "sample". The rest are arguments; those not named keep the package's defaults.
TABLES: dict[str, dict[str, Any]] = {
    "tissue": {"group": "tissue", "sample": "sample", "options": {}},
    "tissue, 75 cells": {"group": "tissue", "sample": "sample", "options": {"cell_min": 75}},
    "disease": {"group": "disease", "sample": "sample", "options": {}},
    "disease, one sample": {"group": "disease", "sample": "sample", "options": {"samp_min": 1}},
    "disease, NA kept": {"group": "disease", "sample": "sample", "options": {"samp_min": 1, "dropna": False}},
    "cell type": {
        "group": "cell_type",
        "sample": "sample",
        "options": {"cell_min": 10, "samp_groupby": ["sample", "disease"], "num_dis": None},
    },
    "shared sample names": {
        "group": "tissue",
        "sample": "condition",
        "options": {"cell_min": 800, "samp_min": 1},
    },
}


def questions() -> dict[str, dict[str, Any]]:
    """Name, genes, weights (None: a plain list) and aggregate of everything that is asked."""
    lines = (DATA / "signatures.gmt").read_text().splitlines()
    sets = {name: list(dict.fromkeys(genes)) for name, _, *genes in (line.split("\t") for line in lines)}
    plain = {name: {"genes": sets[name], "weights": None, "aggregate": "mean"} for name in SETS}
    return plain | {
        "MS1, sum": {"genes": sets["MS1"], "weights": None, "aggregate": "sum"},
        "weighted": {"genes": list(WEIGHTED), "weights": list(WEIGHTED.values()), "aggregate": "mean"},
        "signed": {"genes": list(SIGNED), "weights": list(SIGNED.values()), "aggregate": "mean"},
        "signed, sum": {"genes": list(SIGNED), "weights": list(SIGNED.values()), "aggregate": "sum"},
    }


def open_array(folder: Path) -> tuple[SIGnature, pd.DataFrame]:
    """The package's handle on its array of all studies, and their cells' metadata."""
    paths = [DATA / name for name in FILES]
    matrices, frames = [], []
    for path in paths:
        with h5py.File(path) as file:
            n_cells = int(file["X"].attrs["shape"][0])
        matrices.append(read_matrix(path, n_cells))
        frames.append(read_obs(path, n_cells))
    genes = read_genes(paths[0])
    if any(read_genes(path) != genes for path in paths):
        sys.exit(f"the files in {DATA} have different genes")
    sp.save_npz(folder / "attributions.npz", sp.vstack(matrices, "csr"), compressed=False)
    signature = SIGnature(genes)
    signature.create_tiledb(str(folder / "attributions.npz"), attribution_tiledb_uri=str(folder / "array"))
    return signature, pd.concat(frames)


def ask(signature: SIGnature, question: dict[str, Any]) -> tuple[np.ndarray, list[str]]:
    """Scores (n_cells,) in the package's own dtype, and the genes that it knows."""
    genes = signature.check_genes(question["genes"])
    weights = question["weights"]
    if weights is not None:
        weights = [w for gene, w in zip(question["genes"], weights, strict=True) if gene in set(genes)]
    scores = signature.query_attributions(genes, weights=weights, aggregate_type=question["aggregate"])
    return np.asarray(scores).ravel(), genes


def sample_table(meta: Meta, table: dict[str, Any]) -> pd.DataFrame:
    """The package's table, with the numbers of cells and hits behind each of its fractions."""
    cells = meta.df.assign(disease=meta.df[table["group"]], sample=meta.df[table["sample"]])
    found = Meta(cells).samphit_df(hit_col="score__hit", **table["options"])
    counts = cells.groupby(["disease", "study", "sample"])["score__hit"].agg(n_cells="size", n_hits="sum")
    counts = counts.reset_index()
    counts["disease"] = [title_name(name) for name in counts["disease"]]  # as the package does
    found["disease"] = found["disease"].astype(str)
    merged = found.merge(counts, how="left", on=["disease", "study", "sample"], validate="one_to_one")
    merged = merged.rename(columns={"disease": "group", "score__hit": "hit_fraction"})
    columns = ["group", "study", "sample", "n_cells", "n_hits", "hit_fraction"]
    return merged[columns].sort_values(["group", "study", "sample"])


def answers(folder: Path) -> tuple[dict[str, Any], dict[str, np.ndarray], pd.DataFrame]:
    """What is known by name, arrays over cells, and all sample tables; ``folder`` is for the array."""
    signature, obs = open_array(folder)
    expected: dict[str, Any] = {
        "versions": versions("sc-signature", "tiledb", "numpy", "scipy", "pandas"),
        "files": {name: hashlib.sha256((DATA / name).read_bytes()).hexdigest() for name in FILES},
        "tables": TABLES,
        "questions": {},
    }
    arrays, tables = {}, []
    for name, question in questions().items():
        scores, genes = ask(signature, question)
        meta = Meta(obs.copy())
        meta.add_scores({"score": scores})
        meta.add_hits("score")
        hits = meta.df["score__hit"].to_numpy()
        arrays[f"{name}/scores"], arrays[f"{name}/hits"] = scores, hits
        # add_hits keeps its cut-off to itself; this is its line
        cutoff = np.percentile(meta.df["score"].values, 95.0)
        known = {"known_genes": genes, "cutoff": float(cutoff), "n_hits": int(hits.sum())}
        expected["questions"][name] = question | known
        for title, table in TABLES.items():
            tables.append(sample_table(meta, table).assign(question=name, table=title))
    return expected, arrays, pd.concat(tables)


def main() -> None:
    """Write answers.json, cells.npz and samples.csv into the folder."""
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE
    if (out / "answers.json").exists():
        sys.exit(f"{out} has answers; they are evidence and never written anew")
    warnings.simplefilter("ignore")  # the package warns at each group-by, and prints while it builds
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(sys.stderr):
        expected, arrays, samples = answers(Path(folder))
    out.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(out / "cells.npz", **arrays)
    names = ["question", "table", "group", "study", "sample", "n_cells", "n_hits", "hit_fraction"]
    samples[names].to_csv(out / "samples.csv", index=False)
    (out / "answers.json").write_text(json.dumps(expected) + "\n")


if __name__ == "__main__":
    main()
