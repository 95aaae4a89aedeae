"""Files of a model that are damaged or mean harm are refused, by name, and never run."""

import json
import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from insignia_index.attribution.errors import ModelError, UnreadableModel, UnsafeWeights
from insignia_index.attribution.model import load_model
from insignia_index.attribution.stand_ins import StandIn, read_with_stand_ins

from ...golden.attributions.answers import HERE
from .models import GENES, write_scimilarity

WEIGHTS = {
    "scimilarity": "encoder.ckpt",
    "scvi": "model.pt",
    "ssl": "classifier",
    "scfoundation": "models.ckpt",
}
FILES = [
    (kind, path.name)
    for kind in WEIGHTS
    for path in sorted((HERE / kind).iterdir())
    if path.name != "label_ints.csv"  # of cell types, which sc-signature reads
]


class Harm:
    """Makes a file, if it is unpickled as pickles are."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.path}",)


def copied(kind: str, folder: Path) -> Path:
    shutil.copytree(HERE / kind, folder / kind)
    return folder / kind


@pytest.mark.parametrize(("kind", "name"), FILES)
def test_a_missing_file_is_named(kind: str, name: str, tmp_path: Path) -> None:
    directory = copied(kind, tmp_path)
    (directory / name).unlink()
    with pytest.raises(UnreadableModel) as caught:
        load_model(directory, kind)
    named = str(directory) if (kind, name) == ("ssl", "classifier") else str(directory / name)
    assert caught.value.data["path"] == named


@pytest.mark.parametrize(("kind", "name"), FILES)
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.99])
def test_a_file_that_is_cut_off_is_refused(kind: str, name: str, share: float, tmp_path: Path) -> None:
    directory = copied(kind, tmp_path)
    content = (directory / name).read_bytes()
    (directory / name).write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ModelError, match=name.split(".")[0]):
        load_model(directory, kind)


@pytest.mark.parametrize("kind", WEIGHTS)
@pytest.mark.parametrize("content", [b"hello", bytes(range(256)) * 9, b"PK\x03\x04" + bytes(99)])
def test_weights_that_are_something_else_are_said_to_be_damaged(
    kind: str, content: bytes, tmp_path: Path
) -> None:
    directory = copied(kind, tmp_path)
    (directory / WEIGHTS[kind]).write_bytes(content)
    with pytest.raises(UnreadableModel, match="no checkpoint of torch, or it is cut off"):
        load_model(directory, kind)


@pytest.mark.parametrize("kind", WEIGHTS)
@pytest.mark.parametrize("old", [False, True], ids=["zip", "pickle"])
def test_a_pickle_that_would_run_code_is_refused_and_not_run(kind: str, old: bool, tmp_path: Path) -> None:
    directory, ran = copied(kind, tmp_path), tmp_path / "ran"
    saved = torch.load(directory / WEIGHTS[kind], weights_only=False)
    saved["harm"] = Harm(ran)
    torch.save(saved, directory / WEIGHTS[kind], _use_new_zipfile_serialization=not old)
    with pytest.raises(UnsafeWeights, match="save the weights alone"):
        load_model(directory, kind)
    assert not ran.exists()


@pytest.mark.parametrize("kind", WEIGHTS)
def test_a_plain_pickle_is_refused_and_not_run(kind: str, tmp_path: Path) -> None:
    directory, ran = copied(kind, tmp_path), tmp_path / "ran"
    (directory / WEIGHTS[kind]).write_bytes(pickle.dumps({"state_dict": Harm(ran)}, protocol=2))
    with pytest.raises(ModelError):
        load_model(directory, kind)
    assert not ran.exists()


def test_stand_ins_keep_harm_of_known_packages_from_running(tmp_path: Path) -> None:
    """`numpy` and `pandas` can be told to run things as well, so nothing of them is called."""
    path, ran = tmp_path / "model.pt", tmp_path / "ran"

    class Through:
        def __reduce__(self) -> tuple[Any, ...]:
            import pandas as pd

            return pd.eval, (f"@__import__('os').system('touch {ran}')",)

    torch.save({"weights": torch.ones(2), "other": Through()}, path)
    found = read_with_stand_ins(path)
    assert isinstance(found["other"], StandIn)
    assert not ran.exists()


def test_a_gene_twice_in_a_model_is_named(tmp_path: Path) -> None:
    write_scimilarity(tmp_path, ["A", "B", "A", *(f"G{i}" for i in range(37))])
    with pytest.raises(UnreadableModel, match="its list of genes has 'A' twice"):
        load_model(tmp_path)


@pytest.mark.parametrize("size", [[-5, 40], [10**12, 40], [float("inf"), 40], [10**30, 40]])
def test_sizes_that_no_layer_has_are_refused(tmp_path: Path, size: list[float]) -> None:
    write_scimilarity(tmp_path, GENES)
    path = tmp_path / "layer_sizes.json"
    sizes = json.loads(path.read_text())
    path.write_text(json.dumps(sizes | {"network.0.1.weight": size}))
    with pytest.raises(UnreadableModel, match=r"layer_sizes\.json"):
        load_model(tmp_path)


def test_weights_without_names_are_refused(tmp_path: Path) -> None:
    write_scimilarity(tmp_path, GENES)
    torch.save({"state_dict": {0: torch.zeros(2)}}, tmp_path / "encoder.ckpt")
    with pytest.raises(UnreadableModel, match="do not fit together"):
        load_model(tmp_path)
