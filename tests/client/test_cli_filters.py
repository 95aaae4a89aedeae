"""Notes about filters: that no cell passes, and values that no cell has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from insignia_client.cli import filters, main
from insignia_client.errors import DeadlineExceeded
from insignia_index import InputFile, build_atlas

DATA = Path(__file__).parents[1] / "data"
WHERE = ["--where", "tissue=Blood", "--where", "cell_type=beta"]


@pytest.fixture(scope="module")
def atlas(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("filters") / "a.atlas"
    build_atlas(path, [InputFile(DATA / "pbmc3k.h5ad")])
    return path


@pytest.mark.parametrize("command", ["search", "scores", "explain"])
def test_what_no_cell_has_is_told_when_none_passes(atlas: Path, capsys: Any, command: str) -> None:
    asked = [command, "--atlas", str(atlas), "--genes", "CD14"]
    assert main.main([*asked, *WHERE]) == 0
    told = capsys.readouterr().err
    assert "Note: no cell passes the filter\n" in told
    assert "Note: no cell has tissue=Blood; did you mean blood?\n" in told
    assert "Note: no cell has cell_type=beta; there are CD4 T, " in told
    assert main.main([*asked, "--where", "tissue=blood"]) == 0
    assert "Note" not in capsys.readouterr().err


@pytest.mark.parametrize("command", ["search", "scores", "explain"])
@pytest.mark.parametrize("condition", ["cell_type=B,Dendritik", "cell_type!=Dendritik"])
def test_one_misspelled_value_among_others_is_told(
    atlas: Path, capsys: Any, command: str, condition: str
) -> None:
    """Else the one looks as if it had no cells, and the other leaves nothing out."""
    asked = [command, "--atlas", str(atlas), "--genes", "CD14", "--where", condition]
    assert main.main(asked) == 0
    assert capsys.readouterr().err == "Note: no cell has cell_type=Dendritik; did you mean Dendritic?\n"


def test_an_answer_outlives_a_note_that_fails(
    atlas: Path, capsys: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def late(self: object, most: int) -> Any:
        raise DeadlineExceeded("somewhere", 1)

    monkeypatch.setattr("insignia_index.Atlas.fields", late)
    out = tmp_path / "x.csv"
    assert main.main(["search", "--atlas", str(atlas), "--genes", "CD14", *WHERE, "--out", str(out)]) == 0
    assert out.exists()
    assert "Note: no cell passes the filter" in capsys.readouterr().err


def test_a_field_of_very_many_values_is_not_checked(
    atlas: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filters, "MOST_VALUES", 3)
    assert main.main(["search", "--atlas", str(atlas), "--genes", "CD14", *WHERE]) == 0
    told = capsys.readouterr().err
    assert "tissue=Blood" in told
    assert "cell_type=beta" not in told
