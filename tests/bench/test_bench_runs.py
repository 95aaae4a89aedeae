"""The benchmarks run, at sizes whose figures mean nothing, and say what they should."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

import peer_bench
from atlases import QUICK, Bench
from report import Row, Section, as_markdown, as_text, write_document
from run import SECTIONS, chosen

RUN = Path(peer_bench.__file__).with_name("run.py")
# the compared packages are not there in a test run, and the large atlas takes half an hour
HERE = [name for name in SECTIONS if name not in ("peer", "large")]


def test_every_section_gives_figures(tmp_path):
    figures = tmp_path / "figures.json"
    options = ["--quick", "--only", ",".join(HERE), "--cache-dir", tmp_path / "cache", "--json", figures]
    env = {name: value for name, value in os.environ.items() if name != "INSIGNIA_DATA"}
    done = subprocess.run(
        [sys.executable, RUN, *options], env=env, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads(figures.read_text())["rows"]
    assert len({row["section"] for row in rows}) == len(HERE)
    unmeasured = [row["what"] for row in rows if row["number"] is None]
    assert unmeasured == ["against sc-signature's create_tiledb"]
    assert all(math.isfinite(row["number"]) for row in rows if row["number"] is not None)
    assert [row["number"] for row in rows if row["what"] == "errors"] == [0]


def test_without_the_compared_packages_their_rows_say_how_to_get_them(monkeypatch, tmp_path):
    monkeypatch.setattr(peer_bench, "PEER_PYTHON", tmp_path / "python")
    section = peer_bench.peer(Bench(QUICK, tmp_path))
    assert "not measured" in as_text(section)
    assert "not installed: make bench-peer" in as_text(section)


@pytest.mark.parametrize(
    ("row", "figure", "target"),
    [
        (Row("a", 1234.4, "x", at_least=300), "1,234x", "≥ 300x: met"),
        (Row("a", 0.514, "s", at_most=0.5), "0.514 s", "≤ 0.5 s: NOT MET"),
        (Row("a", 2, "ms"), "2 ms", ""),
        (Row("a", 1.71e9, "/s"), "1,710 M/s", ""),
        (Row("a", 23_400, "/s"), "23.4 k/s", ""),
        (Row("a", None, "x", "why", at_least=2), "not measured", "≥ 2x"),
        (Row("a", 0, at_most=0), "0", "≤ 0: met"),
    ],
)
def test_a_figure_stands_beside_its_target(row, figure, target):
    assert (row.figure, row.target) == (figure, target)


def test_the_document_has_every_row_and_no_placeholder(tmp_path):
    section = Section("Search", (Row("86 genes", 1.5, "ms", "p99 2 ms", at_most=3),))
    write_document([section], "a.h5ad", tmp_path / "performance.md")
    text = (tmp_path / "performance.md").read_text()
    assert "| 86 genes | 1.5 ms | ≤ 3 ms: met | p99 2 ms |" in text
    assert as_markdown([section]) in text
    assert "$" not in text


def test_sections_are_chosen_by_name():
    assert "large" not in chosen(None, large=False)
    assert chosen("search, peer", large=False) == ["search", "peer"]
    with pytest.raises(ValueError, match="nonsense"):
        chosen("search,nonsense", large=False)
