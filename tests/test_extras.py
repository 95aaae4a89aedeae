"""Each extra brings what its commands need; the others name the extra that does."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from .contract.serving import DATA, served

HERE = Path(__file__).parent
CELL = "pbmc3k:TGGTCAGACCGTTC-1"
SIGNATURES = str(DATA / "signatures.gmt")
QUESTIONS = [
    ["search", "--genes", "CD14,LYZ", "--group-by", "cell_type", "--null"],
    ["search", "--genes", "CD14,LYZ", "--group-by", "cell_type", "--compare"],
    ["explain", "--genes", "CD14,LYZ", "--group-by", "cell_type"],
    ["similar", "--cell", CELL, "--group-by", "cell_type"],
    ["scores", "--genes", "CD14,LYZ"],
    ["genes", "CD14", "p53", "LYSZ"],
    ["studies"],
    ["fields"],
    ["cells", CELL],
]


def run(extra: str, *commands: list[str]) -> list[tuple[int, str]]:
    """Exit code and output of each command in an environment with an extra."""
    done = subprocess.run(
        [sys.executable, HERE / "as_installed.py", extra],
        input=json.dumps(commands), capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [(code, said) for code, said in json.loads(done.stdout)]


@pytest.fixture(scope="module")
def atlas(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two real studies, built, changed and searched with the extra ``index`` alone."""
    folder = tmp_path_factory.mktemp("extras")
    path = folder / "two.atlas"
    kang, pbmc = str(DATA / "kang2018.h5ad"), str(DATA / "pbmc3k.h5ad")
    ended = run(
        "index",
        ["build", str(path), kang],
        ["add", str(path), pbmc],
        ["remove", str(path), "kang2018"],
        ["add", str(path), kang],
        ["info", str(path)],
        ["verify", str(path)],
        *([name, "--atlas", str(path), *rest] for name, *rest in QUESTIONS),
        ["screen", SIGNATURES, "--atlas", str(path), "--group-by", "study", "-o", str(folder / "s.parquet")],
    )
    assert [(code, said) for code, said in ended if code] == []
    return path


def test_a_client_needs_no_extra(atlas: Path, tmp_path: Path) -> None:
    with served(atlas) as address:
        ended = run(
            "",
            *([name, "--server", address, *rest] for name, *rest in QUESTIONS),
            ["screen", SIGNATURES, "--server", address, "--group-by", "study", "-o", str(tmp_path / "s.csv")],
        )
    assert [(code, said) for code, said in ended if code] == []


@pytest.mark.parametrize(
    ("extra", "command", "needed"),
    [
        ("", ["build", "new", "a.h5ad"], "index"),
        ("", ["search", "--atlas", "ATLAS", "--genes", "CD14"], "index"),
        ("", ["serve", "ATLAS"], "server"),
        ("index", ["serve", "ATLAS"], "server"),
        ("server", ["search", "--atlas", "ATLAS", "--genes", "CD14", "--plot", "new.png"], "plot"),
        ("server", ["build", "--faiss", "auto", "new", str(DATA / "pbmc3k.h5ad")], "faiss"),
        ("server", ["retrain", "ATLAS", "--faiss", "auto"], "faiss"),
        ("server", ["build", "--model", str(DATA / "encoder"), "new", "a.h5ad"], "attribution"),
        (
            "server",
            ["attribute", "a.h5ad", "--model", str(DATA / "encoder"), "-o", "new.h5ad"],
            "attribution",
        ),
        ("server", ["import-signature", str(HERE / "golden" / "published"), "new"], "tiledb"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else value or "base",
)
def test_a_command_names_the_extra_that_it_needs(
    extra: str, command: list[str], needed: str, atlas: Path, tmp_path: Path
) -> None:
    places = {"ATLAS": str(atlas), "new": str(tmp_path / "new"), "new.png": str(tmp_path / "new.png")}
    ((code, said),) = run(extra, [places.get(word, word) for word in command])
    assert code in (1, 2), said
    assert f"pip install 'insignia[{needed}]'" in said.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []
