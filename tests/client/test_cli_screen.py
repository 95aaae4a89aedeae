"""`insignia screen`: the file holds what a screen gives, however often the command was stopped."""

import errno
import itertools
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import h5py
import pandas as pd
import pytest

from insignia_client.cli import main
from insignia_client.cli.screen_parts import Parts, opened_parts
from insignia_index import Atlas, InputFile, build_atlas, read_gmt

DATA = Path(__file__).parents[1] / "data"

#: The command, four signatures at a time, each batch slowly.
SLOWED = """
import sys, time
from insignia_index.search import screening
screening._MAX_BATCH = 4
groups = screening.Screening._groups
def slowly(self, queries):
    time.sleep(float(sys.argv[1]))
    return groups(self, queries)
screening.Screening._groups = slowly
from insignia_client.cli.main import main
sys.exit(main(sys.argv[2:]))
"""


@pytest.fixture(scope="module")
def atlas(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("screen") / "a.atlas"
    build_atlas(path, [InputFile(DATA / "pbmc3k.h5ad")])
    return path


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("library") / "sets.gmt"
    genes = ["CD14", "LYZ", "CD3E", "MS4A1", "NKG7", "NOSUCH"]
    path.write_text(
        "".join(f"S{i}\t\t{genes[i % 6]}\t{genes[i * i % 5]}\n" for i in range(23)) + "BAD\t\tNO\n"
    )
    return path


def command(atlas: Path, library: Path, out: Path, *more: str) -> list[str]:
    return ["screen", str(library), "--atlas", str(atlas), "--group-by", "cell_type", "-o", str(out), *more]


def run(arguments: list[str], seconds: float = 0) -> "subprocess.Popen[str]":
    line = [sys.executable, "-c", SLOWED, str(seconds), *arguments]
    return subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet"])
def test_the_file_holds_what_the_atlas_gives(atlas: Path, library: Path, tmp_path: Path, suffix: str) -> None:
    out = tmp_path / f"found{suffix}"
    assert main.main(command(atlas, library, out)) == 0
    with Atlas.open(atlas) as opened:
        wanted = opened.screen(read_gmt(library), group_by="cell_type", n_leading=5).to_frame()
    if suffix == ".parquet":
        pd.testing.assert_frame_equal(pd.read_parquet(out), wanted)
    else:
        assert out.read_text() == wanted.to_csv(index=False, sep="\t" if suffix == ".tsv" else ",")
    assert [path.name for path in tmp_path.iterdir()] == [out.name]


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGKILL])
@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_stopped_screen_goes_on_to_the_same_bytes(
    atlas: Path, library: Path, tmp_path: Path, sent: signal.Signals, suffix: str
) -> None:
    whole, out = tmp_path / f"whole{suffix}", tmp_path / f"found{suffix}"
    assert main.main(command(atlas, library, whole)) == 0
    parts = tmp_path / f"{out.name}.parts"
    process = run(command(atlas, library, out), seconds=0.5)
    while process.poll() is None and not [*parts.glob("part-*")]:
        time.sleep(0.01)
    process.send_signal(sent)
    _, told = process.communicate(timeout=60)
    assert process.returncode == (130 if sent == signal.SIGINT else -9)
    assert "Traceback" not in told
    assert not out.exists()
    done = sorted(parts.glob("part-*"))
    assert 0 < len(done) < 6
    (parts / f".{done[0].name}").write_bytes(b"PK half")  # as a crash leaves it
    assert main.main(command(atlas, library, out)) == 0
    assert out.read_bytes() == whole.read_bytes()
    assert not parts.exists()


def stopped(atlas: Path, library: Path, out: Path) -> Path:
    process = run(command(atlas, library, out), seconds=0.4)
    parts = out.with_name(f"{out.name}.parts")
    while process.poll() is None and not [*parts.glob("part-*")]:
        time.sleep(0.01)
    process.kill()
    process.communicate()
    return parts


def test_another_question_is_refused_and_nothing_is_lost_and_a_cut_part_is_done_again(
    atlas: Path, library: Path, tmp_path: Path, capsys: Any
) -> None:
    whole, out = tmp_path / "whole.csv", tmp_path / "found.csv"
    parts = stopped(atlas, library, out)
    before = {path: path.read_bytes() for path in parts.iterdir()}
    assert main.main(command(atlas, library, out, "--min-cells", "3")) == 2
    assert "another question" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in parts.iterdir()} == before
    part = min(parts.glob("part-*"))
    part.write_bytes(part.read_bytes()[:-100])
    assert main.main(command(atlas, library, out)) == main.main(command(atlas, library, whole)) == 0
    assert out.read_bytes() == whole.read_bytes()


def test_a_question_that_was_refused_does_not_stand_in_the_way_of_another(
    atlas: Path, library: Path, tmp_path: Path, capsys: Any
) -> None:
    out = tmp_path / "found.csv"
    assert main.main(command(atlas, library, out, "--group-by", "celltype")) == 2
    assert "celltype" in capsys.readouterr().err
    assert main.main(command(atlas, library, out)) == 0
    assert [path.name for path in tmp_path.glob("found*")] == ["found.csv"]


@pytest.mark.parametrize(("plot", "said"), [("x.foo", "must end in"), ("no/such/x.png", "no such folder")])
def test_a_picture_that_cannot_be_is_refused_before_the_screen(
    atlas: Path, library: Path, tmp_path: Path, capsys: Any, plot: str, said: str
) -> None:
    assert main.main(command(atlas, library, tmp_path / "x.csv", "--plot", str(tmp_path / plot))) == 2
    err = capsys.readouterr().err
    assert (err.startswith("insignia: --plot: "), said in err) == (True, True)
    assert list(tmp_path.iterdir()) == []


def test_a_directory_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    from insignia_model.errors import InvalidArgument

    theirs = tmp_path / "x.csv.parts"
    theirs.mkdir()
    (theirs / ".hidden").write_text("mine")
    with pytest.raises(InvalidArgument, match="not part of a screen"):
        Parts(theirs, "question")
    assert (theirs / ".hidden").read_text() == "mine"


def test_a_question_that_was_half_written_is_written_again(tmp_path: Path) -> None:
    path = tmp_path / "x.csv.parts"
    path.mkdir()
    (path / ".question").write_text("qu")
    assert Parts(path, "question").n_done == 0
    assert Parts(path, "question").n_done == 0


@pytest.mark.parametrize("name", ["found.txt", "found", "nowhere/found.csv"])
def test_an_out_that_cannot_be_is_refused_before_any_work(
    atlas: Path, library: Path, tmp_path: Path, capsys: Any, name: str
) -> None:
    assert main.main(command(atlas, library, tmp_path / name)) == 2
    assert capsys.readouterr().err.startswith("insignia: --out: ")
    assert not [*tmp_path.iterdir()]


def test_a_filter_that_nothing_passes_writes_the_columns(atlas: Path, library: Path, tmp_path: Path) -> None:
    out = tmp_path / "found.csv"
    assert main.main(command(atlas, library, out, "--where", "cell_type=none such")) == 0
    frame = pd.read_csv(out)
    assert frame["signature"].tolist() == ["BAD"]
    assert {"cell_type", "n_hits", "reason"} <= set(frame)


@pytest.mark.parametrize("how", [[], ["--means-only"], ["--null"]], ids=["hits", "means", "null"])
def test_a_picture_is_drawn_beside_the_file(
    atlas: Path, library: Path, tmp_path: Path, how: list[str]
) -> None:
    out, plot = tmp_path / "found.csv", tmp_path / "found.svg"
    asked = [*command(atlas, library, out), *how, "--plot", str(plot)]
    assert main.main(asked) == 0
    assert plot.read_text().count("<svg") == 1
    assert out.exists()


def test_an_atlas_that_was_made_anew_is_another_one(
    atlas: Path, library: Path, tmp_path: Path, capsys: Any
) -> None:
    mine, out = tmp_path / "mine.atlas", tmp_path / "found.csv"
    build_atlas(mine, [InputFile(DATA / "pbmc3k.h5ad")])
    stopped(mine, library, out)
    shutil.rmtree(mine)
    with h5py.File(shutil.copy(DATA / "pbmc3k.h5ad", tmp_path / "pbmc3k.h5ad"), "r+") as file:
        file["X/data"][...] = file["X/data"][...] * 2
    build_atlas(mine, [InputFile(tmp_path / "pbmc3k.h5ad")])  # the same but for the values
    assert main.main(command(mine, library, out)) == 2
    assert "another question, library or revision" in capsys.readouterr().err


def test_sets_that_several_files_have_and_that_are_none_have_a_row_each(atlas: Path, tmp_path: Path) -> None:
    files = [tmp_path / "b.gmt", tmp_path / "c.gmt", tmp_path / "d.json"]
    files[0].write_text("B\t\tLYZ\nEMPTY\t\n")
    files[1].write_text("C\t\tLYZ\nEMPTY\t\n")
    files[2].write_text('{"D": ["LYZ"], "J\\ud800": ["LYZ"]}')
    out = tmp_path / "found.csv"
    assert main.main(["screen", *map(str, files), "--atlas", str(atlas), "-o", str(out)]) == 0
    found = pd.read_csv(out, keep_default_na=False)
    assert found.signature.tolist() == ["B", "C", "D", "EMPTY", f"EMPTY ({files[1]})", "J\\ud800"]
    assert (found.reason != "").tolist() == [False] * 3 + [True] * 3


def test_a_second_screen_into_the_same_file_is_told_of_the_first(
    atlas: Path, library: Path, tmp_path: Path, capsys: Any
) -> None:
    out = tmp_path / "found.csv"
    with opened_parts(out, "a question"):
        before = sorted(out.with_name("found.csv.parts").iterdir())
        assert main.main(command(atlas, library, out)) == 2
        assert f"another screen is writing {out}" in capsys.readouterr().err
        assert sorted(out.with_name("found.csv.parts").iterdir()) == before
    assert [path.name for path in tmp_path.iterdir()] == ["found.csv.parts"]


def test_a_file_system_without_locks_does_for_a_screen(
    atlas: Path, library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_lock(*_: object) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr("insignia_client.cli.screen_parts.fcntl.flock", no_lock)
    assert main.main(command(atlas, library, tmp_path / "found.csv")) == 0


def test_an_atlas_that_changes_while_a_screen_begins_is_told(
    atlas: Path, library: Path, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = itertools.count()
    monkeypatch.setattr("insignia_client.cli.screen._content", lambda _: f"revision {next(seen)}")
    assert main.main(command(atlas, library, tmp_path / "found.csv")) == 2
    assert "the atlas changed just now; run the same command again" in capsys.readouterr().err


def test_a_directory_is_refused_and_a_filter_that_nothing_passes_is_told(
    atlas: Path, library: Path, tmp_path: Path, capsys: Any
) -> None:
    (tmp_path / "x.csv").mkdir()
    assert main.main(command(atlas, library, tmp_path / "x.csv")) == 2
    assert "is a directory" in capsys.readouterr().err
    assert main.main(command(atlas, library, tmp_path / "y.csv", "--where", "cell_type=none")) == 0
    told = capsys.readouterr().err
    assert "Note: no cell has cell_type=none; there are " in told
    assert "Note: no cell passes the filter" in told
