"""Reads the answers of this folder."""

from pathlib import Path

import numpy as np
from scipy.sparse import csr_matrix

from insignia_index.attribution.model import AttributionModel, load_model

HERE = Path(__file__).resolve().parent
#: Kinds that sc-signature answers for, and their directories.
FOLDERS = {
    "scimilarity": "scimilarity",
    "scvi": "scvi",
    "ssl": "ssl",
    "scfoundation-signature": "scfoundation",
}
METHODS = ("ig", "dl", "ixg")
#: Answers that are rounding errors, see README.md.
NOISE = {("scimilarity", "dl"), ("scimilarity", "ixg")}


def golden_model(kind: str) -> AttributionModel:
    """The small model of a kind."""
    return load_model(HERE / FOLDERS.get(kind, kind), kind)


def golden_counts(model: AttributionModel) -> csr_matrix:
    """Counts of the cells (16, n_genes), of the model's genes, float32."""
    with np.load(HERE / "counts.npz") as file:
        column = {str(gene): i for i, gene in enumerate(file["genes"])}
        return csr_matrix(file["counts"][:, [column[gene] for gene in model.genes]].astype(np.float32))


def golden_answer(kind: str, what: str) -> np.ndarray:
    """Of `METHODS`: absolute attributions (16, n_genes), each cell's sum 1,000; or "embedding". float32."""
    with np.load(HERE / "answers.npz") as file:
        answer: np.ndarray = file[f"{kind}/{what}"]
        return answer
