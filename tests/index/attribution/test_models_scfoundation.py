"""scFoundation's cells are sequences of their genes, whatever cells are beside them."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from insignia_index.attribution.errors import UnreadableModel
from insignia_index.attribution.models import scfoundation
from insignia_index.attribution.models.scfoundation_encoder import DEPTH, CellEncoder

from ...golden.attributions.answers import HERE, golden_counts, golden_model

TABLE = "OS_scRNA_gene_index.19264.tsv"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A copy of the small model."""
    shutil.copytree(HERE / "scfoundation", tmp_path / "model")
    return tmp_path / "model"


def change(directory: Path, **settings: Any) -> None:
    """Other settings of the encoder, or else of the model."""
    path = directory / "models.ckpt"
    saved = torch.load(path, weights_only=True)
    of_model = saved["cell"]["config"]["model_config"]["mae_autobin"]
    for name, value in settings.items():
        part = of_model["encoder"] if name in of_model["encoder"] else of_model
        part[name] = value
    torch.save(saved, path)


def test_a_cell_does_not_depend_on_the_cells_beside_it() -> None:
    model = golden_model("scfoundation")
    x = torch.from_numpy(model.prepare(golden_counts(model)).toarray())
    together = model.module(x)
    alone = torch.vstack([model.module(cell[None]) for cell in x])
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_a_cell_without_genes_has_an_embedding_and_no_attribution() -> None:
    model = golden_model("scfoundation")
    x = torch.from_numpy(model.prepare(golden_counts(model)[:2]).toarray())
    x[0] = 0
    x.requires_grad_(True)
    embedding = model.module(x)
    embedding.sum().backward()  # type: ignore[no-untyped-call]
    n_dims = embedding.shape[1] // 4
    assert torch.isfinite(embedding).all()
    assert torch.isfinite(x.grad).all()  # type: ignore[arg-type]
    assert (embedding[0, 2 * n_dims :] == 0).all()
    assert (x.grad[0] == 0).all()  # type: ignore[index]


def layers_of(x: np.ndarray, module: CellEncoder) -> np.ndarray:
    """Tokens of one cell through the layers, in numpy."""
    n_heads = module.sizes.n_heads

    def norm(x: np.ndarray, part: torch.nn.LayerNorm) -> np.ndarray:
        scaled = (x - x.mean(axis=1, keepdims=True)) / np.sqrt(x.var(axis=1, keepdims=True) + 1e-5)
        return scaled * part.weight.numpy() + part.bias.numpy()

    for layer in module.encoder.transformer_encoder:
        projected = x @ layer.self_attn.in_proj_weight.numpy().T + layer.self_attn.in_proj_bias.numpy()
        queries, keys, values = (np.split(part, n_heads, axis=1) for part in np.split(projected, 3, axis=1))
        heads = []
        for query, key, value in zip(queries, keys, values, strict=True):
            shares = np.exp(query @ key.T / np.sqrt(query.shape[1]))
            heads.append(shares / shares.sum(axis=1, keepdims=True) @ value)
        out = layer.self_attn.out_proj
        x = norm(x + np.hstack(heads) @ out.weight.numpy().T + out.bias.numpy(), layer.norm1)
        hidden = np.maximum(x @ layer.linear1.weight.numpy().T + layer.linear1.bias.numpy(), 0)
        x = norm(x + hidden @ layer.linear2.weight.numpy().T + layer.linear2.bias.numpy(), layer.norm2)
    return norm(x, module.encoder.norm)


def test_an_embedding_is_what_s_and_t_become_and_the_largest_and_mean_of_the_genes() -> None:
    model = golden_model("scfoundation")
    module = model.module
    assert isinstance(module, CellEncoder)
    cell = model.prepare(golden_counts(model)[4]).toarray()[0]
    present = np.flatnonzero(cell)
    values = np.append(cell[present], [DEPTH, DEPTH])[:, None]
    embed = module.token_emb
    hidden = values @ embed.mlp.weight.numpy().T + embed.mlp.bias.numpy()
    hidden = np.where(hidden > 0, hidden, 0.1 * hidden)
    mixed = 0.7 * hidden + hidden @ embed.mlp2.weight.numpy().T + embed.mlp2.bias.numpy()
    shares = np.exp(mixed) / np.exp(mixed).sum(axis=1, keepdims=True)
    positions = module.pos_emb.weight.numpy()[np.append(present, [600, 601])]
    encoded = layers_of(shares @ embed.emb.weight.numpy() + positions, module)
    genes = encoded[:-2]
    expected = np.concatenate([encoded[-1], encoded[-2], genes.max(axis=0), genes.mean(axis=0)])
    np.testing.assert_allclose(module(torch.from_numpy(cell[None]))[0], expected, atol=1e-4)


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"module_type": "performer"}, "encoder of type 'performer'.*local_attention"),
        ({"depth": 3}, "other sizes than its 'config' says"),
        ({"hidden_dim": 32}, "other sizes than its 'config' says"),
        ({"bin_num": 11}, "other sizes than its 'config' says"),
        ({"heads": 3}, "16 dimensions cannot be shared by 3 heads"),
        ({"heads": "many"}, "settings or weights lack a part"),
        ({"encoder": None}, "'config' does not say how the encoder is built"),
    ],
    ids=str,
)
def test_settings_that_do_not_fit_are_refused(
    settings: dict[str, Any], problem: str, directory: Path
) -> None:
    change(directory, **settings)
    with pytest.raises(UnreadableModel, match=problem) as caught:
        scfoundation.load(directory)
    assert caught.value.data["path"] == str(directory / "models.ckpt")


def test_a_list_of_genes_of_another_length_is_refused(directory: Path) -> None:
    genes = pd.read_csv(directory / TABLE, sep="\t")
    genes.iloc[:-1].to_csv(directory / TABLE, sep="\t", index=False)
    with pytest.raises(UnreadableModel, match=r"it is for 600 genes, and OS_\S+ has 599; take both"):
        scfoundation.load(directory)


def test_a_gene_called_nan_is_a_gene(directory: Path) -> None:
    genes = pd.read_csv(directory / TABLE, sep="\t")
    genes.loc[3, "gene_name"] = "NA"
    genes.to_csv(directory / TABLE, sep="\t", index=False)
    assert scfoundation.load(directory).genes[3] == "NA"


@pytest.mark.parametrize("content", [b"", b"symbol\nA\n", b"\xff\xfe\x00"])
def test_a_list_of_genes_that_cannot_be_read_is_refused(content: bytes, directory: Path) -> None:
    (directory / TABLE).write_bytes(content)
    with pytest.raises(UnreadableModel, match=TABLE):
        scfoundation.load(directory)


def test_a_checkpoint_without_the_model_of_cells_is_refused(directory: Path) -> None:
    torch.save({"gene": {}}, directory / "models.ckpt")
    with pytest.raises(UnreadableModel, match="it has no 'cell'"):
        scfoundation.load(directory)


def test_weights_that_are_missing_are_named(directory: Path) -> None:
    path = directory / "models.ckpt"
    saved = torch.load(path, weights_only=True)
    del saved["cell"]["state_dict"]["model.encoder.norm.weight"]
    torch.save(saved, path)
    with pytest.raises(UnreadableModel, match=r"encoder\.norm\.weight"):
        scfoundation.load(directory)
