"""``insignia build``, ``add``, ``remove``, ``verify`` and ``info``."""

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from insignia_client.cli.main import insignia, main
from insignia_index import Atlas

from .made import study, write_h5ad
from .test_inputs import MADE, as_anndata


def run(*arguments: object) -> Result:
    return CliRunner().invoke(insignia, [str(argument) for argument in arguments])


@pytest.fixture
def a(tmp_path: Path) -> Path:
    return write_h5ad(tmp_path / "a.h5ad", study("A", 25, 6, density=1.0))


@pytest.fixture
def b(tmp_path: Path) -> Path:
    return write_h5ad(tmp_path / "b.h5ad", study("B", 5, 3, density=1.0))


def test_build_add_and_remove_say_what_they_did(tmp_path: Path, a: Path, b: Path) -> None:
    atlas = tmp_path / "atlas"
    assert run("build", atlas, a).output == f"{atlas}: 1 study added; 25 cells, 150 postings (revision 1)\n"
    again = f"{atlas}: nothing to do: 1 study already there, unchanged (revision 1)\n"
    assert run("build", atlas, a).output == again
    assert run("add", atlas, a).output == again
    both = f"{atlas}: 1 study added, 1 study already there, unchanged; 5 cells, 15 postings (revision 2)\n"
    assert run("add", atlas, a, b).output == both
    write_h5ad(a, study("A", 26, 6, density=1.0))
    replaced = f"{atlas}: 1 study replaced; 26 cells, 156 postings (revision 3)\n"
    assert run("add", "--replace", atlas, a).output == replaced
    assert run("remove", atlas, "A", "A", "B").output == f"{atlas}: removed A, B (revision 4)\n"


def test_every_option_reaches_the_build(tmp_path: Path) -> None:
    made = as_anndata(MADE.values * 0)
    made.layers["ig"] = MADE.values
    made.var["symbol"] = [f"S{i}" for i in range(9)]
    made.obs["dataset"], made.obs["donor"], made.obs["score"] = "D", 7, 1.0
    made.obs = made.obs.drop(columns="study")
    made.write_h5ad(tmp_path / "a.h5ad")
    done = run(
        "build", "--layer", "ig", "--study-field", "dataset", "--sample-field", "donor",
        "--gene-field", "symbol", "--drop-field", "score", "--drop-field", "age", "--drop-field", "sample",
        "--value-dtype", "float32", tmp_path / "atlas", tmp_path / "a.h5ad",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    with Atlas.open(tmp_path / "atlas") as atlas:
        assert [s.study for s in atlas.studies()] == ["D"]
        assert [field.field for field in atlas.fields()] == ["study", "donor", "sample"]
        assert (atlas.scores(["S3"]).values == MADE.values[:, 3]).all()
        assert atlas.search(["S3"], group_by="sample").group_table["sample"].to_list() == ["7"]


def test_info_and_verify_describe_the_atlas(tmp_path: Path, a: Path, b: Path) -> None:
    atlas = tmp_path / "atlas"
    run("build", atlas, a, b)
    shown = run("info", atlas).output
    for words in ("revision 1, format version 1", "A: 25 cells, 3 samples, 6 genes, revision 1, from a.h5ad"):
        assert words in shown
    about = json.loads(run("info", atlas, "--format", "json").output)
    assert (about["n_cells"], about["n_postings"], about["value_dtype"]) == (30, 165, "float16")
    assert [one["study"] for one in about["studies"]] == ["A", "B"]
    n_bytes = sum(path.stat().st_size for path in atlas.glob("shards/*/*.bin"))
    assert run("verify", atlas).output == f"{atlas}: 2 studies, {n_bytes:,} bytes, all as they were written\n"


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["build", "ATLAS", "missing.h5ad"], ["missing.h5ad", "no such file"]),
        (["add", "nowhere", "A"], ["no atlas at nowhere", "insignia build"]),
        (["remove", "ATLAS", "Z"], ["no study 'Z'"]),
        (["verify", "nowhere"], ["no atlas at nowhere"]),
        (["info", "nowhere"], ["no atlas at ", "nowhere;"]),
        (["build", "A", "ATLAS"], ["a.h5ad", "is a file"]),  # the wrong way round
        (["build", "--value-dtype", "float32", "ATLAS", "A"], ["float16", "float32"]),
    ],
)
def test_an_error_is_one_line_and_an_exit_code(
    tmp_path: Path, a: Path, command: list[str], words: list[str],
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    run("build", tmp_path / "atlas", a)
    monkeypatch.chdir(tmp_path)
    names = {"ATLAS": str(tmp_path / "atlas"), "A": str(a)}
    assert main([names.get(word, word) for word in command]) in (1, 2)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert len(shown.err.splitlines()) == 1
    for word in words:
        assert word in shown.err


def test_a_build_without_files_shows_how_it_is_used(tmp_path: Path) -> None:
    done = run("build", tmp_path / "atlas")
    assert done.exit_code == 2
    assert "Usage:" in done.output
    assert not (tmp_path / "atlas").exists()


def test_progress_is_shown_on_a_terminal_only(tmp_path: Path, a: Path, b: Path) -> None:
    assert run("build", tmp_path / "atlas", a).stderr == ""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "insignia_client.cli.main", "add", str(tmp_path / "atlas"), str(b)]
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=theirs, env=os.environ | {"TERM": "xterm"}
    ) as shown:
        os.close(theirs)
        assert shown.wait() == 0
    drawn = os.read(ours, 100_000).decode()
    os.close(ours)
    assert "b.h5ad" in drawn
    assert "5/5" in drawn


def test_what_looks_like_an_oversight_is_told(tmp_path: Path) -> None:
    made = study("A", 100, 40)
    counts = made.with_(values=np.ceil(made.values), obs=made.obs.drop(columns="sample"))
    told = run("build", tmp_path / "atlas", write_h5ad(tmp_path / "a.h5ad", counts)).output
    assert "Note: study 'A' of a.h5ad has whole numbers only, as counts are: --model" in told
    assert "Note: a.h5ad has no column 'sample': every study counts as one sample; --sample-field" in told
    usual = ["build", tmp_path / "other", write_h5ad(tmp_path / "b.h5ad", study("B", 100, 40))]
    assert "Note" not in run(*usual).output
    told = run("add", *usual[1:], "--replace", "--drop-field", "smaple").output
    assert "Note: b.h5ad has no column 'smaple' to leave out" in told
