"""Writes, with sc-signature, arrays as it publishes them, cut from tests/data, and its answers.

    .venv-peer/bin/python tests/golden/published/make.py [FOLDER]

It runs in the environment that `make bench-peer` makes, without Insignia. What is committed is the evidence:
a folder that has answers is left alone.
"""

import contextlib
import json
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parents[2]
sys.path.insert(0, str(PROJECT / "benchmarks" / "peer"))

from read_scale import read_genes, read_matrix, read_obs, versions  # noqa: E402
from SIGnature import Meta, SIGnature  # noqa: E402
from SIGnature.utils import normalize_attribution_matrix  # noqa: E402

DATA = PROJECT / "tests" / "data"
FILES = ["kang2018.h5ad", "pbmc3k.h5ad"]
#: Folder of a cell type: the cell types of the two studies that go there.
FOLDERS = {
    "B cell": ["B", "B cells"],
    "classical monocyte": ["CD14 Monocytes", "CD14+ Monocytes"],
    "natural killer cell": ["NK", "NK cells"],
}
N_CELLS = 90  # of a folder
N_GENES = 300
WITHOUT = 2  # cells without an attribution, the last of a folder
SETS = ["HALLMARK_INTERFERON_ALPHA_RESPONSE", "MS1", "CD14_MONOCYTE_MARKERS"]
WEIGHTED = {"CD14": 2.0, "LYZ": 1.0, "S100A9": 1.0, "CD79A": 0.5, "NOSUCH": 7.0}


def signatures() -> dict[str, list[str]]:
    """Gene lists by name."""
    lines = (DATA / "signatures.gmt").read_text().splitlines()
    sets = {name: list(dict.fromkeys(genes)) for name, _, *genes in (line.split("\t") for line in lines)}
    return {name: sets[name] for name in SETS}


def cells() -> tuple[sp.csr_matrix, pd.DataFrame, list[str]]:
    """All cells of the two studies, their metadata, and the genes."""
    frames, matrices = [], []
    for name in FILES:
        obs = read_obs(DATA / name, 10**6)
        matrices.append(read_matrix(DATA / name, len(obs)))
        frames.append(obs)
    return sp.vstack(matrices, "csr"), pd.concat(frames), read_genes(DATA / FILES[0])


def chosen_genes(matrix: sp.csr_matrix, genes: list[str]) -> np.ndarray:
    """Places of the genes of the signatures and of those with most cells, in the order of the model."""
    asked = {gene for of in signatures().values() for gene in of} | set(WEIGHTED)
    density = matrix.getnnz(axis=0) + len(genes) * np.array([gene in asked for gene in genes]) * 10
    return np.sort(np.argsort(-density, kind="stable")[:N_GENES])


def metadata(obs: pd.DataFrame, cell_type: str, rng: np.random.Generator) -> pd.DataFrame:
    """Columns as in the published tables; cells are numbered in every folder anew."""
    disease = obs["disease"].replace("systemic lupus erythematosus", "lupus")
    return pd.DataFrame(
        {
            "study": obs["study"].to_numpy(),
            "sample": obs["sample"].to_numpy(),
            "prediction": cell_type,
            "tissue": obs["tissue"].to_numpy(),
            "disease": disease.to_numpy(),
            "prediction_nn_dist": rng.gamma(2.0, 0.01, len(obs)).round(6),
            "total_counts": rng.integers(500, 9_000, len(obs)),
            "in_vivo": True,
            "age": np.where(rng.random(len(obs)) < 0.3, None, "31y"),
        }
    )


def write(out: Path) -> dict[str, Any]:
    """Write the folders, the gene order and an .npz; return the answers."""
    matrix, obs, genes = cells()
    places = chosen_genes(matrix, genes)
    genes = [genes[i] for i in places]
    (out / "gene_order.tsv").write_text("".join(f"{gene}\n" for gene in genes))
    rng = np.random.default_rng(0)
    answers: dict[str, Any] = {"folders": {}, "signatures": signatures() | {"weighted": list(WEIGHTED)}}
    for name, types in FOLDERS.items():
        rows = rng.permutation(np.flatnonzero(obs["cell_type"].isin(types)))[:N_CELLS]
        of_folder = matrix[rows][:, places].tolil()
        of_folder[-WITHOUT:] = 0
        folder = out / name
        folder.mkdir()
        table = metadata(obs.iloc[rows], name, rng)
        table.to_csv(folder / "cell_metadata.csv.gz")
        answers["folders"][name] = answer(folder, of_folder.tocsr(), genes, answers["signatures"])
        if name == "B cell":
            normalize_attribution_matrix(of_folder.tocsr(), npz_path=str(out / "B cell.npz"))
    return answers


def answer(folder: Path, matrix: sp.csr_matrix, genes: list[str], asked: dict[str, Any]) -> dict[str, Any]:
    """Let the package write the array, and ask it every signature."""
    signature = SIGnature(genes, str(folder / "attributions"))
    with tempfile.TemporaryDirectory() as temporary:
        sp.save_npz(f"{temporary}/a.npz", matrix)
        signature.create_tiledb(f"{temporary}/a.npz")
    answers: dict[str, Any] = {}
    for name, symbols in asked.items():
        known = signature.check_genes(symbols)
        weights = [WEIGHTED[gene] for gene in known] if name == "weighted" else None
        # the package counts cells up to the last with an attribution; asked for all, it answers for all
        every = list(range(matrix.shape[0]))
        scores = signature.query_attributions(known, cell_indices=every, weights=weights)
        meta = Meta(pd.read_csv(folder / "cell_metadata.csv.gz", index_col=0))
        meta.add_scores({"score": np.asarray(scores).ravel()})
        meta.add_hits("score", cut_val=80)
        answers[name] = {
            "known": known,
            "scores": [float(score) for score in meta.df["score"]],
            "hits": np.flatnonzero(meta.df["score__hit"]).tolist(),
        }
    return answers


def main() -> None:
    """Write everything into the folder."""
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE
    if (out / "answers.json").exists():
        sys.exit(f"{out} has answers; they are evidence and never written anew")
    out.mkdir(parents=True, exist_ok=True)
    warnings.simplefilter("ignore")  # the package prints while it builds
    with contextlib.redirect_stdout(sys.stderr):
        answers = write(out)
    answers["weights"] = WEIGHTED
    answers["versions"] = versions("sc-signature", "tiledb", "numpy", "scipy", "pandas")
    (out / "answers.json").write_text(json.dumps(answers) + "\n")


if __name__ == "__main__":
    main()
