"""Answers equal those of the reference package, sc-signature, on the same real cells.

Its answers are in tests/golden/signature; the README there says how it means them.
"""

import hashlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from insignia_index import Atlas, InputFile, Signature, build_atlas

PROJECT = Path(__file__).parents[2]
DATA = PROJECT / "tests" / "data"
GOLDEN = PROJECT / "tests" / "golden" / "signature"
PEER = PROJECT / ".venv-peer" / "bin" / "python"

EXPECTED: dict[str, Any] = json.loads((GOLDEN / "answers.json").read_text())
QUESTIONS: dict[str, dict[str, Any]] = EXPECTED["questions"]
TABLES: dict[str, dict[str, Any]] = EXPECTED["tables"]
SHARED = "shared sample names"
ROW = ["group", "study", "sample"]
COUNTS = ["n_cells", "n_hits", "hit_fraction"]


def read_samples(folder: Path) -> pd.DataFrame:
    text = dict.fromkeys(["question", "table", *ROW], str)
    samples = pd.read_csv(
        folder / "samples.csv", dtype=text, keep_default_na=False, float_precision="round_trip"
    )
    return samples.assign(group=samples["group"].str.lower())  # the package writes Systemic Lupus ...


SAMPLES = read_samples(GOLDEN)


@pytest.fixture(scope="module")
def cells() -> dict[str, np.ndarray]:
    with np.load(GOLDEN / "cells.npz") as arrays:
        return dict(arrays)


def built(folder: Path, value_dtype: str, sample_field: str | None = None) -> Path:
    hidden = ("sample",) if sample_field else ()
    files = [
        InputFile(DATA / name, sample_field=sample_field, drop_fields=hidden) for name in EXPECTED["files"]
    ]
    build_atlas(folder, files, value_dtype=value_dtype)
    return folder


@pytest.fixture(scope="module")
def atlas(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Atlas]:
    with Atlas.open(built(tmp_path_factory.mktemp("reference") / "atlas", "float32"), threads=2) as opened:
        yield opened


@pytest.fixture(scope="module")
def half_atlas(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Atlas]:
    with Atlas.open(built(tmp_path_factory.mktemp("reference") / "atlas", "float16"), threads=2) as opened:
        yield opened


def signature(question: dict[str, Any]) -> Signature:
    """The question without the names that the package drops, some of which we know."""
    weights = dict(zip(question["genes"], question["weights"] or [1.0] * len(question["genes"]), strict=True))
    return Signature({gene: weights[gene] for gene in question["known_genes"]})


def scale(question: dict[str, Any]) -> float:
    """Our score / the package's: its mean divides by the sum of the weights, ours by that of their sizes."""
    if question["aggregate"] == "sum":
        return 1.0
    weights = signature(question).weights
    known = [weights[gene] for gene in question["known_genes"]]
    return sum(known) / sum(map(abs, known))


def scores_and_wanted(atlas: Atlas, name: str, cells: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Scores of all cells, ours and the package's."""
    question = QUESTIONS[name]
    found = atlas.scores(signature(question), aggregate=question["aggregate"])
    assert not found.genes.problems()
    assert set(atlas.genes(question["genes"]).problems()) == set(question["genes"]) - set(
        question["known_genes"]
    )
    wanted = cells[f"{name}/scores"].astype(np.float64) * scale(question)
    assert found.values.shape == wanted.shape
    return found.values.astype(np.float64), wanted


def sample_rows(atlas: Atlas, question: dict[str, Any], field: str, cell_min: int) -> pd.DataFrame:
    """Our samples of at least cell_min cells: a row each, its group in small letters as in SAMPLES."""
    result = atlas.search(
        signature(question), k=0, group_by=field, aggregate=question["aggregate"], min_cells=cell_min
    )
    samples = result.samples.rename(columns={field: "group"})
    samples[ROW] = samples[ROW].astype(str)
    samples["group"] = samples["group"].str.lower()
    return samples.loc[samples["n_cells"] >= cell_min, ROW + COUNTS].sort_values(ROW, ignore_index=True)


def reference_rows(question: str, table: str) -> pd.DataFrame:
    of = SAMPLES[(SAMPLES["question"] == question) & (SAMPLES["table"] == table)]
    return of[ROW + COUNTS].sort_values(ROW, ignore_index=True)


def cell_min(table: str) -> int:
    return TABLES[table]["options"].get("cell_min", 50)


def test_the_answers_are_about_these_files() -> None:
    for name, digest in EXPECTED["files"].items():
        assert hashlib.sha256((DATA / name).read_bytes()).hexdigest() == digest, name


@pytest.mark.parametrize("name", QUESTIONS)
def test_scores_of_all_cells_are_those_of_the_package(
    atlas: Atlas, cells: dict[str, np.ndarray], name: str
) -> None:
    found, wanted = scores_and_wanted(atlas, name, cells)
    # the package adds up plain lists in float32, which is nearly all of the difference
    assert (np.abs(found - wanted) <= 1e-6 * np.abs(wanted)).all()


@pytest.mark.parametrize("name", QUESTIONS)
def test_scores_in_float16_are_those_of_the_package(
    half_atlas: Atlas, atlas: Atlas, cells: dict[str, np.ndarray], name: str
) -> None:
    found, wanted = scores_and_wanted(half_atlas, name, cells)
    question = QUESTIONS[name]
    # every value is rounded, so where weights are negative the error is relative to what they take off, too
    sizes = {gene: abs(weight) for gene, weight in signature(question).weights.items()}
    size = atlas.scores(sizes, aggregate=question["aggregate"]).values
    assert (np.abs(found - wanted) <= 1e-3 * size).all()


@pytest.mark.parametrize("name", QUESTIONS)
def test_the_cutoff_and_the_hits_are_those_of_the_package(
    atlas: Atlas, cells: dict[str, np.ndarray], name: str
) -> None:
    question = QUESTIONS[name]
    result = atlas.search(signature(question), k=0, aggregate=question["aggregate"])
    assert result.cutoff == pytest.approx(question["cutoff"] * scale(question), rel=1e-6)
    assert result.n_hits == question["n_hits"]
    # k best cells are the hits, so this says which cells they are
    best = atlas.search(signature(question), k=result.n_hits, aggregate=question["aggregate"], group_by=())
    found = {(row["study"], row["cell_id"]) for row in best.cell_table.rows()}
    chunks = atlas.scores(signature(question), cell_ids=True)
    every = [(chunk.study, cell_id) for chunk in chunks for cell_id in chunk.cell_ids]
    assert found == {every[row] for row in np.flatnonzero(cells[f"{name}/hits"])}


@pytest.mark.parametrize("table", [table for table in TABLES if table != SHARED])
@pytest.mark.parametrize("name", QUESTIONS)
def test_the_samples_are_those_of_the_package(atlas: Atlas, name: str, table: str) -> None:
    options = TABLES[table]["options"]
    found = sample_rows(atlas, QUESTIONS[name], TABLES[table]["group"], cell_min(table))
    assert not found.duplicated(["group", "sample"]).any()  # else a name would be no identity
    # the package also leaves out groups of few samples, and NA; an answer of ours has all
    n_samples = found.groupby("group")["sample"].transform("size")
    kept = n_samples >= options.get("samp_min", 3)
    if options.get("dropna", True):
        kept &= found["group"] != "na"
    pd.testing.assert_frame_equal(
        found[kept].reset_index(drop=True), reference_rows(name, table), check_exact=True
    )


@pytest.mark.parametrize("table", ["tissue", "tissue, 75 cells", "disease, NA kept", "cell type"])
@pytest.mark.parametrize("name", QUESTIONS)
def test_hit_fractions_by_group_are_those_of_the_packages_samples(
    atlas: Atlas, name: str, table: str
) -> None:
    question, field = QUESTIONS[name], TABLES[table]["group"]
    wanted = reference_rows(name, table).groupby("group")["hit_fraction"].agg(["size", "mean", "median"])
    assert len(wanted) > 1
    groups = atlas.search(
        signature(question),
        k=0,
        group_by=field,
        aggregate=question["aggregate"],
        min_cells=cell_min(table),
    ).groups
    groups = groups.set_index(groups[field].astype(str).str.lower()).loc[wanted.index]
    assert groups["n_samples"].tolist() == wanted["size"].tolist()
    np.testing.assert_allclose(groups["sample_hit_fraction_mean"], wanted["mean"], rtol=1e-14)
    np.testing.assert_allclose(groups["sample_hit_fraction_median"], wanted["median"], rtol=1e-14)


def test_by_default_the_package_has_no_row_of_these_studies() -> None:
    # three samples a disease: lupus has two, normal one, and NA is dropped
    assert not (SAMPLES["table"] == "disease").any()


def test_samples_of_one_name_in_two_studies_are_two_here(tmp_path: Path) -> None:
    spec = TABLES[SHARED]
    with Atlas.open(built(tmp_path / "atlas", "float32", spec["sample"])) as atlas:
        for name, question in QUESTIONS.items():
            found = sample_rows(atlas, question, spec["group"], cell_min(SHARED))
            wanted = reference_rows(name, SHARED)
            # "untreated" are 904 cells of one study and 762 of another: enough together, for the package
            small = wanted["n_cells"] < cell_min(SHARED)
            assert wanted.loc[small, ROW].to_numpy().tolist() == [["blood", "pbmc3k", "untreated"]]
            pd.testing.assert_frame_equal(
                found, wanted[~small].reset_index(drop=True), check_exact=True, obj=name
            )


@pytest.mark.skipif(not PEER.exists(), reason="the package is not installed; `make bench-peer` does it")
def test_the_package_still_answers_so(tmp_path: Path, cells: dict[str, np.ndarray]) -> None:
    command = [PEER, GOLDEN / "make.py", tmp_path]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    again = json.loads((tmp_path / "answers.json").read_text())
    assert again["files"] == EXPECTED["files"]
    assert again["tables"] == TABLES
    assert again["questions"].keys() == QUESTIONS.keys()
    for name, question in again["questions"].items():
        cutoff = QUESTIONS[name]["cutoff"]
        assert question | {"cutoff": cutoff} == QUESTIONS[name]
        assert question["cutoff"] == pytest.approx(cutoff, rel=1e-6)
    with np.load(tmp_path / "cells.npz") as arrays:
        assert arrays.keys() == cells.keys()
        for name, values in arrays.items():
            np.testing.assert_allclose(values, cells[name], rtol=1e-6, atol=1e-6)
    pd.testing.assert_frame_equal(read_samples(tmp_path), SAMPLES)
