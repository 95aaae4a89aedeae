"""Make the data that the tests carry: real cells with real attributions, and real signatures.

    python tests/data/make.py SOURCES

SOURCES holds attributions/*.h5ad, expression/*.h5ad (the same cells' counts), model/ (the encoder) and
signatures/*.gmt, as README.md describes them. A study's cells are
thinned per (sample, cell type); which ones are kept depends on nothing but their names, so the same
sources give the same files.
"""

import argparse
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import anndata
import h5py
import numpy as np
import pandas as pd
import torch

HERE = Path(__file__).resolve().parent
LEAST_CELLS = 10  # a (sample, cell type) this small is kept whole: fewer cells are no replicate
COMPRESSED = {"compression": "gzip", "compression_opts": 9, "shuffle": True}

HALLMARKS = (
    "HALLMARK_INTERFERON_ALPHA_RESPONSE",
    "HALLMARK_INTERFERON_GAMMA_RESPONSE",
    "HALLMARK_INFLAMMATORY_RESPONSE",
    "HALLMARK_TNFA_SIGNALING_VIA_NFKB",
    "HALLMARK_HYPOXIA",
    "HALLMARK_G2M_CHECKPOINT",
    "HALLMARK_OXIDATIVE_PHOSPHORYLATION",
    "HALLMARK_PANCREAS_BETA_CELLS",
)
MARKERS = {
    "BETA_CELL_MARKERS": ("INS", "IAPP", "MAFA", "NKX6-1", "PDX1", "DLK1"),
    "CD14_MONOCYTE_MARKERS": ("S100A8", "S100A9", "LYZ", "CD14", "FCN1", "VCAN"),
}


@dataclass(frozen=True)
class Study:
    """A source file, and the share of each of its strata that is kept."""

    name: str
    share: float


STUDIES = (Study("kang2018", 0.15), Study("pbmc3k", 0.28), Study("baron2016", 0.25))
COUNTED = STUDIES[0]  # whose counts are carried too
ENCODER_GENES = 3_000


def kept_rows(obs: pd.DataFrame, share: float) -> np.ndarray:
    """Rows of the kept cells, ascending: of each stratum those whose names have the smallest hashes."""
    names = [hashlib.blake2b(name.encode(), digest_size=8).digest() for name in obs.index]
    kept: list[int] = []
    for rows in obs.groupby(["sample", "cell_type"], observed=True).indices.values():
        n = max(min(LEAST_CELLS, len(rows)), round(share * len(rows)))
        kept += sorted(rows.tolist(), key=names.__getitem__)[:n]
    return np.sort(np.array(kept))


def write_subset(source: Path, share: float, out: Path) -> anndata.AnnData:
    """Write the kept cells with everything that the source says of them; values and genes are untouched."""
    whole = anndata.read_h5ad(source)
    part = whole[kept_rows(whole.obs, share)].copy()
    part.obs.index = part.obs.index.astype(object)
    part.var.index = part.var.index.astype(object)
    with h5py.File(out, "w") as file:
        file.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
        anndata.io.write_elem(file, "X", part.X, dataset_kwargs=COMPRESSED)
        anndata.io.write_elem(file, "obs", part.obs, dataset_kwargs=COMPRESSED)
        anndata.io.write_elem(file, "var", part.var, dataset_kwargs=COMPRESSED)
        anndata.io.write_elem(file, "uns", dict(part.uns))
    return part


def most_detected(source: Path, genes: list[str], wanted: set[str], n: int) -> list[str]:
    """Return n of a model's genes, in its order: the wanted ones, and those that most cells express."""
    counts = anndata.read_h5ad(source)
    detection = pd.Series(np.asarray((counts.X > 0).sum(axis=0)).ravel(), counts.var_names)
    rank = detection.reindex(genes).fillna(0).rank(method="first", ascending=False)
    rank[[gene for gene in genes if gene in wanted]] = 0
    chosen = set(rank.nsmallest(n).index)
    return [gene for gene in genes if gene in chosen]


def write_encoder(source: Path, genes: list[str], out: Path) -> None:
    """Write the encoder without the inputs of other genes, in the same layout."""
    order = (source / "gene_order.tsv").read_text().split()
    columns = torch.tensor([order.index(gene) for gene in genes])
    state = torch.load(source / "encoder.ckpt", map_location="cpu", weights_only=True)["state_dict"]
    state["network.0.1.weight"] = state["network.0.1.weight"][:, columns].contiguous()
    settings = json.loads((source / "hyperparameters.json").read_text()) | {"n_genes": len(genes)}
    out.mkdir(exist_ok=True)
    torch.save({"state_dict": state}, out / "encoder.ckpt")
    sizes = {name: list(value.shape) for name, value in state.items()}
    (out / "layer_sizes.json").write_text(json.dumps(sizes, indent=1) + "\n")
    (out / "hyperparameters.json").write_text(json.dumps(settings, indent=1) + "\n")
    (out / "gene_order.tsv").write_text("\n".join(genes) + "\n")
    (out / "label_ints.csv").write_text((source / "label_ints.csv").read_text())


def signature_lines(folder: Path) -> list[str]:
    """GMT lines: the chosen hallmark sets, MS1, and the marker lists."""
    hallmark = (folder / "msigdb_hallmark.v2023.2.Hs.symbols.gmt").read_text().splitlines()
    by_name = {line.partition("\t")[0]: line for line in hallmark}
    lines = [by_name[name] for name in HALLMARKS]
    lines += (folder / "ms1.gmt").read_text().splitlines()
    lines += ["\t".join((name, "well-known markers", *genes)) for name, genes in MARKERS.items()]
    return lines


def main() -> None:
    """Write the three studies and signatures.gmt beside this file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sources", type=Path, help="folder with attributions/ and signatures/")
    parser.add_argument("--out", type=Path, default=HERE)
    args = parser.parse_args()
    for study in STUDIES:
        out = args.out / f"{study.name}.h5ad"
        part = write_subset(args.sources / "attributions" / out.name, study.share, out)
        size = out.stat().st_size
        print(f"{out.name}: {part.n_obs:,} cells, {part.X.nnz:,} postings, {size / 1e6:.1f} MB")
    lines = signature_lines(args.sources / "signatures")
    (args.out / "signatures.gmt").write_text("\n".join(lines) + "\n")
    (args.out / "counts").mkdir(exist_ok=True)
    expression = args.sources / "expression" / f"{COUNTED.name}.h5ad"
    write_subset(expression, COUNTED.share, args.out / "counts" / expression.name)
    order = (args.sources / "model" / "gene_order.tsv").read_text().split()
    wanted = {gene for line in lines for gene in line.split("\t")[2:]}
    write_encoder(
        args.sources / "model",
        most_detected(expression, order, wanted, ENCODER_GENES),
        args.out / "encoder",
    )


if __name__ == "__main__":
    main()
