"""The command `insignia`: formats, files, exit codes; embedded and served runs print the same."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import re
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from insignia_client.cli import backend, main, render
from insignia_model.errors import AtlasNotFound, InvalidArgument


class Run:
    """Runs the command in this process, on a server or on a made-up embedded atlas."""

    def __init__(self, target: str, capsys: Any) -> None:
        self.target = target
        self.capsys = capsys

    def __call__(self, *arguments: str, served: bool = True) -> tuple[int, str, str]:
        source = ["--server", self.target] if served else ["--atlas", "made-up"]
        return self.bare(arguments[0], *source, *arguments[1:])

    def bare(self, *arguments: str) -> tuple[int, str, str]:
        code = main.main(arguments)
        streams = self.capsys.readouterr()
        return code, streams.out, streams.err


class FakeEmbedded:
    """Stands for the entry point of the embedded atlas."""

    def __init__(self, atlas: Any) -> None:
        self.atlas = atlas

    def load(self) -> Any:
        return self

    def open(self, path: Path) -> Any:
        if not path.name.startswith("made-up"):
            raise AtlasNotFound(path)
        return self.atlas


@pytest.fixture
def run(server: Any, fake_atlas: Any, capsys: Any, monkeypatch: Any) -> Run:
    monkeypatch.setattr(backend, "entry_points", lambda group: [FakeEmbedded(fake_atlas)])
    return Run(server.target, capsys)


def without_time(text: str) -> str:
    return re.sub(r'[\d.]+ ms|"elapsed_ms": [\d.]+', "TIME", text)


SEARCH = ("search", "--genes", "CD14,LYZ:2,nope", "--group-by", "study,tissue", "--quantiles")


@pytest.mark.parametrize(
    "arguments",
    [
        SEARCH,
        (*SEARCH, "--format", "json"),
        (*SEARCH, "--format", "csv"),
        (*SEARCH, "--format", "csv", "--table", "cells"),
        (*SEARCH, "--format", "csv", "--table", "samples"),
        (*SEARCH, "--table", "samples"),
        ("scores", "--genes", "CD14"),
        ("studies",),
        ("studies", "--format", "json"),
        ("fields", "--max-values", "1"),
        ("fields", "--format", "csv"),
        ("genes", "CD14", "nope", "--format", "json"),
        ("cells", "kang:a", "baron:b"),
        ("cells", "kang:a", "--format", "json"),
    ],
)
def test_embedded_and_served_runs_print_the_same(run: Run, arguments: tuple[str, ...]) -> None:
    served, embedded = run(*arguments), run(*arguments, served=False)
    assert served[0] == 0, served
    assert without_time(served[1]) == without_time(embedded[1])
    assert served[1]
    assert served[2] == ""


def test_the_json_object_has_its_keys_in_their_order(run: Run) -> None:
    _, text, _ = run(*SEARCH, "--format", "json", "-k", "2")
    found = json.loads(text)
    assert list(found) == [
        "engine",
        "exact",
        "n_candidates",
        "expected_recall",
        "aggregate",
        "hits",
        "n_cells",
        "n_hits",
        "cutoff",
        "elapsed_ms",
        "unsigned_atlas",
        "genes",
        "notes",
        "cells",
        "groups",
    ]
    assert found["genes"]["resolved"] == ["CD14", "LYZ"]
    assert found["genes"]["missing"] == ["nope"]
    assert list(found["genes"])[2:] == [
        "inexact",
        "ambiguous",
        "suggestions",
        "duplicates",
        "weight_coverage",
        "n_genes_measured",
    ]
    assert found["cutoff"] == 0.1 + 0.2
    assert list(found["cells"][1]) == ["study", "cell_id", "score", "metadata"]
    assert found["cells"][1]["score"] == 0.5
    assert found["cells"][1]["metadata"]["n_counts"] is None
    assert found["cells"][1]["metadata"]["doublet"] is False
    assert list(found["groups"][0]) == [
        "group",
        "n_cells",
        "n_hits",
        "hit_fraction",
        "mean",
        "sd",
        "max",
        "median",
        "p90",
        "n_samples",
        "sample_hit_fraction_mean",
        "sample_hit_fraction_median",
        "n_genes_measured",
    ]
    assert found["groups"][0]["group"] == {"study": "study 0", "tissue": "tissue 0"}
    assert found["groups"][0]["sample_hit_fraction_median"] is None


def test_the_table_names_what_a_biologist_looks_for(run: Run) -> None:
    code, text, _ = run(*SEARCH)
    assert code == 0
    assert "50 of 1,000 cells are hits (percentile:95: score > 0.3)" in text
    assert "2 genes used, 1 not in the atlas: nope" in text
    groups, cells = text.split("\n\n")[1:]
    assert groups.splitlines()[0].split()[:6] == ["study", "tissue", "cells", "hits", "hit", "%"]
    assert "50.0" in groups.splitlines()[1]
    assert groups.splitlines()[0].split()[6:12] == ["mean", "sd", "median", "p90", "max", "samples"]
    # the cell type tells more than the batch
    assert cells.splitlines()[0].split()[:4] == ["study", "cell_id", "score", "cell_type"]
    assert "T cell, CD4-positive" in cells
    assert "(90 more cells: --format csv --table cells)" in cells
    assert "\x1b" not in text
    assert max(map(len, text.splitlines())) <= 160


def test_the_table_without_genes_missing_or_cells_asked(run: Run) -> None:
    code, text, _ = run("search", "--genes", "CD14", "-k", "0", "--group-by", "")
    assert code == 0
    assert "CD14: 50 of 1,000 cells" in text


def test_csv_has_all_digits_and_nothing_for_missing_values(run: Run) -> None:
    _, text, _ = run(*SEARCH, "--format", "csv", "--table", "cells")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert len(rows) == 100
    assert rows[2]["score"] == "0.33333334"
    assert rows[4]["cell_type"] == ""
    assert rows[0]["cell_type"] == "T cell, CD4-positive"
    assert [rows[n]["doublet"] for n in (0, 1, 2)] == ["true", "false", ""]
    assert [rows[n]["n_counts"] for n in (0, 1)] == ["0", ""]


def test_the_question_reaches_the_server(run: Run, server: Any) -> None:
    code, _, err = run(
        "search",
        "--genes",
        "CD14:2, LYZ",
        "-k",
        "7",
        "--where",
        'cell_type="T cell, CD4",B cell',
        "--where",
        "age>=40",
        "--hits",
        "zscore:2.5",
        "--aggregate",
        "sum",
        "--min-cells",
        "3",
        "--min-coverage",
        "0.5",
        "--group-by",
        "tissue",
        "--group-by",
        "sex",
    )
    assert (code, err) == (0, "")
    request = server.service.requests[0]  # another asks for the values of cell_type
    assert (request.k, request.min_cells, request.min_coverage, request.hits.zscore) == (7, 3, 0.5, 2.5)
    assert dict(zip(request.signature.genes, request.signature.weights, strict=True)) == {"CD14": 2, "LYZ": 1}
    assert [v.text for v in request.where[0].values] == ["T cell, CD4", "B cell"]
    assert request.where[1].values[0].integer == 40
    assert list(request.group_by) == ["tissue", "sex"]


def test_a_signature_comes_from_a_gmt_file(run: Run, server: Any, tmp_path: Path) -> None:
    gmt = tmp_path / "sets.gmt"
    gmt.write_text("MONO\tna\tCD14\tLYZ\nBETA\tna\tINS\n")
    assert run("search", "--signature", str(gmt), "--name", "BETA")[0] == 0
    assert list(server.service.requests[0].signature.genes) == ["INS"]
    code, _, err = run("search", "--signature", str(gmt))
    assert (code, "has 2 sets; choose one with --name: MONO, BETA" in err) == (2, True)
    code, _, err = run("search", "--signature", str(gmt), "--name", "BETE")
    assert (code, "there are BETA" in err) == (2, True)
    gmt.write_text("MONO\tna\tCD14\tLYZ\n")
    assert run("search", "--signature", str(gmt))[0] == 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("search",), "--genes GENES or --signature FILE"),
        (("search", "--genes", "A", "--signature", "x.gmt"), "either --genes"),
        (("search", "--genes", "x"), "no gene of the signature can be used"),
        (("search", "--genes", "CD14:much"), "'CD14:much' is not GENE or GENE:WEIGHT"),
        (("search", "--genes", ","), "no genes"),
        (("search", "--genes", "CD14", "--where", "tissue"), "not a condition"),
        (("search", "--genes", "CD14", "--hits", "most"), "percentile:95"),
        (("search", "--genes", "CD14", "--format", "json", "--table", "cells"), "--table is for"),
        (("search", "--genes", "CD14", "-k", "x"), "'x' is not a valid integer"),
        (("search", "--signature", "/nowhere.gmt"), "cannot be read"),
        (("search", "--genes", "CD14", "--out", "/nowhere/x.csv"), "cannot write /nowhere/x.csv"),
        (("scores", "--genes", "CD14", "--out", "x.parquet"), "ends neither in .csv"),
        (("cells", "kang"), "'kang' is not STUDY:CELL_ID"),
        (("cells", "nowhere:a"), "has no cell"),
        (("genes",), "Missing argument"),
    ],
)
def test_a_wrong_question_is_one_sentence_and_exit_code_2(run: Run, arguments: Any, says: str) -> None:
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert says in err
    assert "Traceback" not in err


def test_what_is_asked_must_be_one_atlas_or_one_server(run: Run) -> None:
    for source in ((), ("--atlas", "made-up", "--server", run.target)):
        code, _, err = run.bare("search", "--genes", "CD14", *source)
        assert (code, "either --atlas DIR or --server HOST:PORT" in err) == (2, True)


def test_a_failing_atlas_or_server_is_exit_code_1(run: Run) -> None:
    code, out, err = run.bare("studies", "--server", "127.0.0.1:1")
    assert (code, out) == (1, "")
    assert err.startswith("insignia: no Insignia server answers at 127.0.0.1:1")
    assert err.count("\n") == 1
    code, _, err = run.bare("studies", "--atlas", "elsewhere")
    assert code == 1
    assert err == "insignia: no atlas at elsewhere; `insignia build elsewhere FILE...` makes one\n"


def test_an_atlas_without_the_indexer_names_the_extra(run: Run, monkeypatch: Any) -> None:
    monkeypatch.setattr(backend, "entry_points", lambda group: [])
    code, _, err = run("studies", served=False)
    assert (code, "--atlas needs pip install 'insignia[index]'" in err) == (2, True)


def test_a_file_appears_only_when_it_is_complete(run: Run, tmp_path: Path, monkeypatch: Any) -> None:
    out = tmp_path / "groups.csv"
    code, printed, err = run(*SEARCH, "--out", str(out))
    assert (code, printed, err) == (0, "", f"wrote {out}\n")
    assert out.read_text() == run(*SEARCH, "--format", "csv")[1]
    out.write_text("old")

    def fail(self: Any, *_: Any, **__: Any) -> Any:
        yield from ()
        raise InvalidArgument("x", "breaks off")

    monkeypatch.setattr(type(run_atlas(run)), "_chunks", fail)
    assert run("scores", "--genes", "CD14", "--out", str(out), served=False)[0] == 2
    assert out.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["groups.csv"]


def run_atlas(run: Run) -> Any:
    return backend.open_backend(Path("made-up"), None, 1.0)


def test_the_name_of_the_file_chooses_the_format(run: Run, tmp_path: Path) -> None:
    run(*SEARCH, "--out", str(tmp_path / "found.json"))
    assert json.loads((tmp_path / "found.json").read_text())["n_cells"] == 1_000
    run(*SEARCH, "--out", str(tmp_path / "found.txt"))
    assert "cells are hits" in (tmp_path / "found.txt").read_text()
    run(*SEARCH, "--out", str(tmp_path / "found.txt"), "--format", "json")
    assert json.loads((tmp_path / "found.txt").read_text())["n_hits"] == 50


def test_scores_are_written_as_text_and_as_arrays(run: Run, tmp_path: Path) -> None:
    _, text, _ = run("scores", "--genes", "CD14")
    assert text.splitlines()[:2] == ["study,row,cell_id,score", "kang,0,a,0.1"]
    assert text.splitlines()[-1] == "baron,9,c,0.3"
    _, text, _ = run("scores", "--genes", "CD14", "--no-cell-ids")
    assert text.splitlines()[:2] == ["study,row,score", "kang,0,0.1"]
    tsv, npz = tmp_path / "s.tsv", tmp_path / "s.npz"
    run("scores", "--genes", "CD14", "--out", str(tsv))
    assert tsv.read_text().splitlines()[0] == "study\trow\tcell_id\tscore"
    run("scores", "--genes", "CD14", "--out", str(npz))
    with np.load(npz) as arrays:  # allow_pickle is off
        assert arrays["study_names"][arrays["study"]].tolist() == ["kang"] * 3 + ["baron"] * 3
        assert arrays["row"].tolist() == [0, 1, 2, 4, 7, 9]
        assert arrays["cell_id"].tolist() == ["a", "b", "c"] * 2
        np.testing.assert_allclose(arrays["score"], [0.1, 0.2, 0.3] * 2, rtol=1e-6)


def test_the_plot_is_written(run: Run, tmp_path: Path) -> None:
    png = tmp_path / "hits.png"
    assert run(*SEARCH, "--plot", str(png))[0] == 0
    assert png.read_bytes().startswith(b"\x89PNG")
    code, out, err = run(*SEARCH, "--plot", str(tmp_path / "hits.xyz"))
    assert (code, ".png" in err) == (2, True)
    assert "cells are hits" in out
    assert run(*SEARCH, "--plot", "/nowhere/hits.png")[0] == 2


def test_a_plot_without_matplotlib_names_the_extra(run: Run, monkeypatch: Any) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    code, _, err = run(*SEARCH, "--plot", "hits.png")
    assert code == 2
    assert "a plot needs pip install 'insignia[plot]'" in err


def test_what_is_there_and_is_no_file_is_written_to_and_stays_what_it_is(run: Run, tmp_path: Path) -> None:
    command = (*SEARCH, "--format", "csv")
    printed = run(*command)[1]
    pipe, read = tmp_path / "pipe.csv", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()))
    reader.start()
    assert run(*command, "--out", str(pipe))[0] == 0
    reader.join()
    assert read == [printed]
    assert pipe.is_fifo()
    file, link = tmp_path / "file.csv", tmp_path / "link.csv"
    file.write_text("old")
    file.chmod(0o600)
    link.symlink_to(file)
    assert run(*command, "--out", str(link))[0] == 0
    assert (link.is_symlink(), file.read_text(), file.stat().st_mode & 0o777) == (True, printed, 0o600)


@pytest.mark.parametrize(
    ("out", "said"), [("/", "no name of a file"), ("", "directory"), ("no/such/x.csv", "No such")]
)
def test_an_out_that_is_no_file_is_told(run: Run, out: str, said: str) -> None:
    code, printed, err = run(*SEARCH, "--out", out)
    assert (code, printed, err.count("\n")) == (2, "", 1)
    assert said in err


def test_out_may_name_stdout(server: Any, capsysbinary: Any) -> None:
    command = [*SEARCH, "--format", "csv", "--server", server.target]
    printed = []
    for where in ([], ["--out", "-"]):
        assert main.main([*command, *where]) == 0
        printed.append(capsysbinary.readouterr())
    assert printed[0] == printed[1]


def test_json_has_no_numbers_that_are_none() -> None:
    text = render.json_text({"a": [1.5, math.inf], "b": {"c": -math.inf}, "d": (None, True)})
    assert json.loads(text, parse_constant=lambda name: pytest.fail(name)) == {
        "a": [1.5, "inf"], "b": {"c": "-inf"}, "d": [None, True],
    }  # fmt: skip


@pytest.mark.parametrize("address", ["localhost", "http://127.0.0.1:5", "127.0.0.1:5x", ":50051", "a b:1"])
def test_what_is_no_address_is_told_before_anybody_is_asked(run: Run, address: str) -> None:
    code, _, err = run.bare("search", "--server", address, "--genes", "CD14")
    assert (code, "is not HOST:PORT, such as 127.0.0.1:50051" in err) == (2, True)


@pytest.mark.parametrize("name", ["x.tsv", "x.XLSX", "x.parquet"])
def test_a_file_whose_name_promises_something_else_is_refused(run: Run, tmp_path: Path, name: str) -> None:
    code, _, err = run("search", "--genes", "CD14", "--out", str(tmp_path / name))
    assert (code, "give --format too" in err, list(tmp_path.iterdir())) == (2, True, [])
    assert run("search", "--genes", "CD14", "--format", "csv", "--out", str(tmp_path / name))[0] == 0
    for name in ("x.txt", "run1.5", "X.CSV"):
        assert run("search", "--genes", "CD14", "--out", str(tmp_path / name))[0] == 0
    assert (tmp_path / "X.CSV").read_text().startswith("study,")
