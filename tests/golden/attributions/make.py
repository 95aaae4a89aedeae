"""Writes small models and what sc-signature attributes with them, into this folder or another one.

    PYTHON tests/golden/attributions/make.py CODE [FOLDER]

PYTHON: of an environment with sc-signature 1.0.0 and scvi-tools 1.4.2, without Insignia. CODE: folder
``model`` of github.com/biomap-research/scFoundation, since sc-signature takes the model itself from its
``load.py``. What is committed is the evidence: a folder that has answers is left alone.
"""

import importlib.metadata
import json
import shutil
import sys
import tempfile
import warnings
from collections import OrderedDict
from itertools import pairwise
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp
import scvi
import torch
from SIGnature.models.scfoundation import SCFoundationWrapper
from SIGnature.models.scimilarity import Encoder, SCimilarityWrapper
from SIGnature.models.scvi import SCVIWrapper
from SIGnature.models.ssl import SSLWrapper
from torch import nn

N_CELLS = 16
N_GENES = {"scimilarity": 160, "scvi": 120, "ssl": 140, "scfoundation-signature": 600}
METHODS = ("ig", "dl", "ixg")
WIDTHS = [24, 24, 16, 16, 8]  # of SSL's encoder


def made_counts(rng: np.random.Generator) -> sp.csr_matrix:
    """Cells (N_CELLS, 700 genes) from almost empty to almost full; the last has more than 512 genes."""
    density = np.linspace(0.04, 0.97, N_CELLS)[:, None]
    rates = rng.gamma(1.0, 3.0, (1, 700)) + 0.5
    counts = rng.poisson(rates, (N_CELLS, 700)) * (rng.random((N_CELLS, 700)) < density)
    return sp.csr_matrix(counts.astype(np.float32))


def disturb(module: nn.Module, rng: np.random.Generator) -> None:
    """Norms' statistics and weights away from 0 and 1, so that leaving one out is seen."""
    with torch.no_grad():
        for part in module.modules():
            if isinstance(part, nn.BatchNorm1d | nn.LayerNorm) and part.weight is not None:
                part.weight.copy_(torch.from_numpy(rng.uniform(0.5, 1.5, len(part.weight))))
                part.bias.copy_(torch.from_numpy(rng.normal(0, 0.3, len(part.bias))))
            if isinstance(part, nn.BatchNorm1d):
                part.running_mean.copy_(torch.from_numpy(rng.normal(0, 0.3, len(part.running_mean))))
                part.running_var.copy_(torch.from_numpy(rng.uniform(0.5, 2.0, len(part.running_var))))
            if isinstance(part, nn.PReLU):
                part.weight.fill_(float(rng.uniform(0.1, 0.4)))


def make_scimilarity(folder: Path, genes: list[str], rng: np.random.Generator) -> None:
    model = Encoder(len(genes), latent_dim=8, hidden_dim=[24, 16])
    disturb(model, rng)
    model.save_state(str(folder / "encoder.ckpt"))
    sizes = {name: list(value.shape) for name, value in model.state_dict().items() if value.ndim}
    (folder / "layer_sizes.json").write_text(json.dumps(sizes))
    (folder / "gene_order.tsv").write_text("\n".join(genes) + "\n")
    pd.DataFrame({"0": ["cell"]}).to_csv(folder / "label_ints.csv")


def make_ssl(folder: Path, genes: list[str]) -> None:
    """As Lightning saves a classifier of ssl_in_scg."""
    state: OrderedDict[str, torch.Tensor] = OrderedDict(class_weights=torch.ones(3))
    widths = [len(genes), *WIDTHS, 3]
    for i, (n_in, n_out) in enumerate(pairwise(widths)):
        layer = nn.Linear(n_in, n_out)
        state[f"classifier.{3 * i}.weight"] = layer.weight.data
        state[f"classifier.{3 * i}.bias"] = layer.bias.data
    saved = {"epoch": 1, "global_step": 10, "pytorch-lightning_version": "2.1.0", "state_dict": state}
    saved["callbacks"] = {"ModelCheckpoint": {"best_model_score": torch.tensor(0.5)}}
    torch.save(saved, folder / "classifier")
    pd.DataFrame({"feature_name": genes}).to_parquet(folder / "var.parquet")


def make_scfoundation(folder: Path, genes: list[str], rng: np.random.Generator, code: Path) -> None:
    from pretrainmodels import select_model

    shape = {"depth": 2, "heads": 4, "dim_head": 4, "module_type": "transformer"}
    of_model = {
        "encoder": {**shape, "hidden_dim": 16},
        "decoder": {**shape, "hidden_dim": 8},
        "n_class": 14,
        "pad_token_id": 103,
        "mask_token_id": 102,
        "bin_num": 10,
        "bin_alpha": 0.7,
        "model": "mae_autobin",
    }
    of_data = {"seq_len": len(genes) + 2}
    model = select_model({**of_model, **of_data})
    disturb(model, rng)
    state = OrderedDict((f"model.{name}", value) for name, value in model.state_dict().items())
    config = {
        "model": "mae_autobin",
        "model_config": {"mae_autobin": of_model},
        "dataset_config": {"rnaseq": of_data},
    }
    torch.save({"cell": {"config": config, "state_dict": state}}, folder / "models.ckpt")
    table = pd.DataFrame({"gene_name": genes, "index": range(len(genes))})
    table.to_csv(folder / "OS_scRNA_gene_index.19264.tsv", sep="\t", index=False)


def make_scvi(folder: Path, genes: list[str], rng: np.random.Generator) -> None:
    """Trained by scvi-tools for a moment, and saved by it."""
    rates = rng.gamma(1.0, 3.0, (1, len(genes)))
    cells = ad.AnnData(rng.poisson(rates, (96, len(genes))).astype(np.float32))
    cells.var_names, cells.obs["batch"] = genes, [f"batch{i % 3}" for i in range(96)]
    scvi.model.SCVI.setup_anndata(cells, batch_key="batch")
    model = scvi.model.SCVI(cells, n_hidden=16, n_latent=6, n_layers=2)
    model.train(max_epochs=20, accelerator="cpu", enable_progress_bar=False)
    disturb(model.module.z_encoder, rng)
    model.save(str(folder), overwrite=True)


def cells_of(counts: sp.csr_matrix, genes: list[str]) -> ad.AnnData:
    cells = ad.AnnData(counts.copy(), layers={"counts": counts.copy()})
    cells.var_names = genes
    return cells


def prepared_for_scvi(wrapper: SCVIWrapper, cells: ad.AnnData) -> ad.AnnData:
    """Its preprocessing aligns genes only; the encoder was trained on log1p of counts, so it gets that."""
    prepared = wrapper.preprocess_adata(cells)
    prepared.X = np.log1p(prepared.X)
    return prepared


def attributed(wrapper: Any, given: Any, method: str, **options: Any) -> np.ndarray:
    found = wrapper.calculate_attributions(given, method=method, disable_tqdm=True, **options)
    return found.toarray().astype(np.float32)


def authors_embedding(folder: Path, x: np.ndarray) -> np.ndarray:
    """What get_embedding.py of scFoundation gives, a cell at a time, for log10 depths T and S of 4."""
    from load import gatherData, load_model_frommmf

    model, config = load_model_frommmf(str(folder / "models.ckpt"), "cell")
    model.eval()
    found = []
    with torch.no_grad():
        for cell in x:
            values = torch.tensor([[*cell.tolist(), 4.0, 4.0]])
            labels, ids = values > 0, torch.arange(values.shape[1])[None]
            tokens, padding = gatherData(values, labels, config["pad_token_id"])
            positions, _ = gatherData(ids, labels, config["pad_token_id"])
            embedded = model.token_emb(tokens.unsqueeze(2), output_weight=0) + model.pos_emb(positions)
            encoded = model.encoder(embedded, padding)
            genes = encoded[:, :-2]
            pooled = [encoded[:, -1], encoded[:, -2], genes.max(dim=1)[0], genes.mean(dim=1)]
            found.append(torch.cat(pooled, dim=1).numpy())
    return np.vstack(found)


def main(code: Path, out: Path) -> None:
    if (out / "answers.npz").exists():
        raise SystemExit(f"{out / 'answers.npz'} is there already, and evidence is not made anew")
    if not torch.cuda.is_available():
        nn.Module.cuda = lambda self, *_: (
            self
        )  # load.py puts the model onto a GPU whether there is one or not
    sys.path.insert(0, str(code))
    rng = np.random.default_rng(20261124)
    torch.manual_seed(0)
    scvi.settings.seed = 0
    names = [f"GENE{i}" for i in range(700)]
    genes = {kind: rng.permutation(names)[:n].tolist() for kind, n in N_GENES.items()}
    folders = {kind: out / kind.removesuffix("-signature") for kind in N_GENES}
    for folder in folders.values():
        folder.mkdir(parents=True, exist_ok=True)
    make_scimilarity(folders["scimilarity"], genes["scimilarity"], rng)
    make_ssl(folders["ssl"], genes["ssl"])
    make_scfoundation(folders["scfoundation-signature"], genes["scfoundation-signature"], rng, code)
    make_scvi(folders["scvi"], genes["scvi"], rng)

    counts = made_counts(rng)
    answers: dict[str, np.ndarray] = {}
    wrappers = {
        "scimilarity": SCimilarityWrapper,
        "ssl": SSLWrapper,
        "scfoundation-signature": SCFoundationWrapper,
    }
    for kind, made in wrappers.items():
        wrapper = made(str(folders[kind]))
        given = wrapper.preprocess_adata(cells_of(counts, names), gene_overlap_threshold=50)
        x = given.X.astype(np.float32)
        for method in METHODS:
            answers[f"{kind}/{method}"] = attributed(wrapper, x, method)
        with torch.no_grad():
            dense = torch.from_numpy(x.toarray())
            if kind == "scfoundation-signature":
                found = wrapper._get_geneembmerge(dense, torch.arange(dense.shape[1]).repeat(len(dense), 1))
                answers["scfoundation/embedding"] = authors_embedding(folders[kind], x.toarray())
            else:
                found = wrapper.model(dense)
            answers[f"{kind}/embedding"] = found.numpy()
    for method in METHODS:
        wrapper = SCVIWrapper(str(folders["scvi"]))
        given = prepared_for_scvi(wrapper, cells_of(counts, names))
        answers[f"scvi/{method}"] = attributed(wrapper, given, method)
    with torch.no_grad():
        dense = torch.from_numpy(given.X.toarray())
        answers["scvi/embedding"] = wrapper.model(dense)[0].loc.numpy()
    np.savez_compressed(out / "answers.npz", **answers)
    np.savez_compressed(out / "counts.npz", counts=counts.toarray().astype(np.uint16), genes=np.array(names))
    packages = ("sc-signature", "scvi-tools", "torch", "captum", "numpy", "scipy", "anndata", "scanpy")
    versions = {name: importlib.metadata.version(name) for name in packages}
    (out / "versions.json").write_text(json.dumps(versions, indent=2) + "\n")


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    with tempfile.TemporaryDirectory() as copy:
        shutil.copytree(sys.argv[1], copy, dirs_exist_ok=True)
        main(Path(copy), Path(sys.argv[2]) if len(sys.argv) > 2 else Path(__file__).resolve().parent)
