"""Signatures of every kind of file on the command line, embedded and served; atlases without a direction."""

import pytest
from tests.index.made import build, study

from insignia_client import Client
from insignia_client.cli import main
from insignia_index import Atlas

from .serving import DATA

NOTE = "have no sign"


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main.main(arguments)
    streams = capsys.readouterr()
    return code, streams.out, streams.err


@pytest.mark.parametrize(
    ("name", "text", "options", "first"),
    [
        ("de.csv", "gene,logFC,FDR\nISG15,4,0.001\nLYZ,-1,0.03\n", ["--max-padj", "0.01"], "ISG15"),
        ("de.tsv", "gene\tlogFC\tFDR\nISG15\t4\t0.001\nLYZ\t-1\t0.03\n", ["--de-top", "1"], "ISG15"),
        ("x.csv", "g,w\nISG15,2\n", ["--columns", "gene=g,weight=w"], "ISG15"),
        ("x.json", '{"S": ["ISG15"]}', [], "ISG15"),
        ("x", "ISG15\n", ["--signature-format", "table"], "ISG15"),
    ],
)
def test_files_of_every_kind_give_one_answer_embedded_and_served(
    name, text, options, first, atlas_path, address, tmp_path, capsys
):
    file = tmp_path / name
    file.write_text(text)
    asked = ["search", "--signature", str(file), *options, "--group-by", "sample", "--format", "csv"]
    embedded = run(capsys, *asked, "--atlas", str(atlas_path))
    assert embedded[0] == 0
    assert embedded[1].splitlines()[1].startswith("kang_stimulated,")
    assert run(capsys, *asked, "--server", address) == embedded
    plain = run(capsys, "search", "--genes", first, "--atlas", str(atlas_path), *asked[-4:])
    assert plain[1] == embedded[1]


def test_pairs_are_joined_and_what_is_left_is_told(atlas_path, tmp_path, capsys):
    gmt = tmp_path / "x.gmt"
    gmt.write_text("X_UP\tu\tISG15\nX_DN\tu\tLYZ\nY_UP\tu\tIFI6\n")
    asked = ("search", "--atlas", str(atlas_path), "--signature", str(gmt), "--join-up-down")
    code, out, err = run(capsys, *asked, "--name", "X")
    assert code == 0
    assert "without a partner stay as they are: Y_UP" in err
    assert NOTE in " ".join(out.split())
    assert run(capsys, *asked)[2].count("choose one with --name: X, Y_UP") == 1


def test_an_atlas_without_a_sign_says_so_where_a_weight_is_negative(atlas: Atlas, client: Client):
    for source in (atlas, client):
        signed = source.search({"ISG15": 1, "LYZ": -1})
        assert signed.unsigned_atlas
        assert NOTE in signed.notes[0]
        assert NOTE in repr(signed)
        plain = source.search(["ISG15"])
        assert plain.unsigned_atlas
        assert not plain.notes


def test_a_signed_atlas_needs_no_note(tmp_path):
    with Atlas.open(build(tmp_path, [study("s", signed=True), study("t")])) as atlas:
        result = atlas.search({"G0": 1, "G1": -1})
    assert (result.unsigned_atlas, result.notes) == (False, ())


@pytest.mark.parametrize("extra", [[], ["--by-study"], ["--hits", "zscore:1"]])
def test_the_scores_are_drawn_embedded_and_served(extra, atlas_path, address, tmp_path, capsys):
    for source in (("--atlas", str(atlas_path)), ("--server", address)):
        png, csv = tmp_path / "x.png", tmp_path / "x.csv"
        asked = ("scores", *source, "--signature", str(DATA / "signatures.gmt"), "--name", "MS1", *extra)
        code, out, told = run(capsys, *asked, "--plot", str(png))
        assert (code, out) == (0, "")
        assert told.startswith("MS1: 88 genes used, 11 not in the atlas: ")
        assert "FAM65B used as RIPOR2 (previous symbol)" in told
        assert png.read_bytes().startswith(b"\x89PNG")
        assert run(capsys, *asked, "--plot", str(png), "--out", str(csv))[0] == 0
        assert len(csv.read_text().splitlines()) == 3_704
        png.unlink()
