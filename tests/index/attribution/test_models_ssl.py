"""Encoders of SSL-scTab are the first five layers of whatever checkpoint lies there."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from insignia_index.attribution.errors import UnreadableModel
from insignia_index.attribution.models import ssl

from .saved import Weights, genes_of, save_ssl

X = np.random.default_rng(2).random((5, 7), dtype=np.float32)


def oracle(weights: Weights, prefix: str) -> np.ndarray:
    """Five layers in numpy, SELU between them."""
    x = X.astype(float)
    for i in range(5):
        if i > 0:
            x = 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * np.expm1(x))
        x = x @ weights[f"{prefix}.{3 * i}.weight"].double().numpy().T
        x = x + weights[f"{prefix}.{3 * i}.bias"].double().numpy()
    return x


@pytest.mark.parametrize("name", ["RandomMask.ckpt", "best.pt", "weights.pth", "classifier"])
def test_the_one_checkpoint_is_read_whatever_its_name(name: str, tmp_path: Path) -> None:
    weights = save_ssl(tmp_path, name)
    model = ssl.load(tmp_path)
    assert model.genes == genes_of(7)
    np.testing.assert_allclose(model.module(torch.from_numpy(X)), oracle(weights, "encoder"), atol=1e-5)


def test_weights_alone_are_read_as_well(tmp_path: Path) -> None:
    weights = save_ssl(tmp_path, prefix="classifier")
    torch.save(weights, tmp_path / "RandomMask.ckpt")
    found = ssl.load(tmp_path).module(torch.from_numpy(X))
    np.testing.assert_allclose(found, oracle(weights, "classifier"), atol=1e-5)


def test_several_checkpoints_are_named(tmp_path: Path) -> None:
    save_ssl(tmp_path, "BYOL.ckpt")
    save_ssl(tmp_path, "RandomMask.ckpt")
    with pytest.raises(UnreadableModel, match=r"BYOL\.ckpt, RandomMask\.ckpt; leave only the one"):
        ssl.load(tmp_path)


def test_no_checkpoint_is_missed(tmp_path: Path) -> None:
    save_ssl(tmp_path)
    (tmp_path / "RandomMask.ckpt").unlink()
    with pytest.raises(UnreadableModel, match="there are no weights in it"):
        ssl.load(tmp_path)


def test_genes_of_another_number_are_refused(tmp_path: Path) -> None:
    save_ssl(tmp_path)
    pd.DataFrame({"feature_name": genes_of(8)}).to_parquet(tmp_path / "var.parquet")
    with pytest.raises(UnreadableModel, match=r"encoder.0.weight' has the shape \(6, 7\), and .* 8 inputs"):
        ssl.load(tmp_path)


def test_an_encoder_of_fewer_layers_is_refused(tmp_path: Path) -> None:
    weights = save_ssl(tmp_path)
    first = {name: value for name, value in weights.items() if name.startswith(("encoder.0", "encoder.3"))}
    torch.save({"state_dict": first}, tmp_path / "RandomMask.ckpt")
    with pytest.raises(UnreadableModel, match="it has 2 layers"):
        ssl.load(tmp_path)


@pytest.mark.parametrize("table", [{"gene": ["A"]}, {"feature_name": [1.5]}, {"feature_name": ["A", None]}])
def test_a_table_without_symbols_is_refused(table: dict[str, list[object]], tmp_path: Path) -> None:
    save_ssl(tmp_path)
    pd.DataFrame(table).to_parquet(tmp_path / "var.parquet")
    with pytest.raises(UnreadableModel, match="feature_name"):
        ssl.load(tmp_path)


@pytest.mark.parametrize("content", [b"", b"no parquet", b"PAR1" + bytes(100) + b"PAR1"])
def test_a_damaged_table_is_refused(content: bytes, tmp_path: Path) -> None:
    save_ssl(tmp_path)
    (tmp_path / "var.parquet").write_bytes(content)
    with pytest.raises(UnreadableModel, match=r"var\.parquet: .*feature_name"):
        ssl.load(tmp_path)
