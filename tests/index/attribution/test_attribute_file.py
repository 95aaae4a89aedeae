"""From a file of counts to a file of attributions, and to an atlas."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result
from scipy.sparse import csr_matrix

from insignia_client.cli.main import insignia
from insignia_index import Atlas, InputFile, build_atlas
from insignia_index.attribution import Attributor, Recipe, attribute_file, load_model
from insignia_index.attribution.errors import BadCount, NotCounts, OutputExists, UnknownModel
from insignia_index.attribution.parts import Parts
from insignia_index.attribution.recipe import Attribution
from insignia_index.build.errors import CorruptMatrix
from insignia_model.errors import InvalidArgument

from .models import GENES, counts, write_scimilarity

DATA = Path(__file__).parents[2] / "data"
COUNTS = DATA / "counts" / "kang2018.h5ad"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(insignia, [str(argument) for argument in arguments])


@pytest.fixture
def model(tmp_path: Path) -> Path:
    write_scimilarity(tmp_path / "model", GENES)
    return tmp_path / "model"


@pytest.fixture
def cells(tmp_path: Path) -> Path:
    """Counts of 30 cells and 40 genes: 37 of the model's, in another order, and three others."""
    obs = pd.DataFrame({"study": ["A", "B"] * 15, "n": range(30)}, index=[f"c{i}" for i in range(30)])
    made = anndata.AnnData(counts(), obs)
    made.var_names = ["X1", *GENES[:2:-1], "X2", "X3"]
    made.write_h5ad(tmp_path / "cells.h5ad")
    return tmp_path / "cells.h5ad"


def expected(cells: Path, model: Path, recipe: Recipe) -> tuple[np.ndarray, list[str]]:
    """Attributions by the library's parts, of all cells at once; genes in the model's order."""
    loaded = load_model(model)
    found = anndata.read_h5ad(cells)
    frame = pd.DataFrame(found.X.toarray(), columns=found.var_names)
    aligned = csr_matrix(frame.reindex(columns=list(loaded.genes), fill_value=0).to_numpy(np.float32))
    made = Attributor(loaded, recipe).attribute(loaded.prepare(aligned)).toarray()
    measured = [gene for gene in loaded.genes if gene in found.var_names]
    return made[:, [loaded.genes.index(gene) for gene in measured]], measured


@pytest.mark.parametrize("recipe", [Recipe(), Recipe(signed=True, target_sum=None, steps=7)])
def test_the_output_holds_the_attributions_the_cells_and_the_recipe(
    tmp_path: Path, cells: Path, model: Path, recipe: Recipe
) -> None:
    out = tmp_path / "out.h5ad"
    report = attribute_file(cells, model, out, recipe)
    made, source = anndata.read_h5ad(out), anndata.read_h5ad(cells)
    values, genes = expected(cells, model, recipe)
    np.testing.assert_allclose(made.X.toarray(), values, rtol=1e-4, atol=1e-5)
    assert made.var_names.tolist() == genes
    pd.testing.assert_frame_equal(made.obs, source.obs)
    assert (report.n_cells, report.n_postings, report.n_resumed) == (30, made.X.nnz, 0)
    said = made.uns["attribution"]
    assert (said["model_kind"], said["method"], said["steps"]) == ("scimilarity", "ig", recipe.steps)
    assert said["genes"]["n_measured"] == 37
    assert said["checks"]["completeness_error_max"] < 0.5
    assert not (tmp_path / "out.h5ad.partial").exists()


def test_chunks_change_nothing(
    tmp_path: Path, cells: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    attribute_file(cells, model, tmp_path / "whole.h5ad")
    monkeypatch.setattr("insignia_index.build.rows._CHUNK_CELLS", 7)
    attribute_file(cells, model, tmp_path / "parts.h5ad")
    whole, parts = (anndata.read_h5ad(tmp_path / f"{name}.h5ad") for name in ("whole", "parts"))
    np.testing.assert_allclose(parts.X.toarray(), whole.X.toarray(), rtol=1e-4)


def test_the_same_again_is_left_alone_and_another_is_refused(
    tmp_path: Path, cells: Path, model: Path
) -> None:
    out = tmp_path / "out.h5ad"
    attribute_file(cells, model, out)
    before = out.read_bytes()
    assert attribute_file(cells, model, out).unchanged
    with pytest.raises(OutputExists, match="with another recipe; --replace replaces it"):
        attribute_file(cells, model, out, Recipe(steps=9))
    assert out.read_bytes() == before
    attribute_file(cells, model, out, Recipe(steps=9), replace_output=True)
    assert anndata.read_h5ad(out).uns["attribution"]["steps"] == 9


KILLED = """
import os, signal, sys
from insignia_index.attribution import attribute_file
from insignia_index.attribution.parts import Parts
from insignia_index.build import rows
rows._CHUNK_CELLS = 7
done, last, stage = 0, int(sys.argv[4]), sys.argv[5]
append = Parts.append
def counted(self, *given):
    global done
    done += 1
    if done == last and stage == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    if done == last and stage == "within":
        self._record = lambda: os.kill(os.getpid(), signal.SIGKILL)
    append(self, *given)
    if done == last and stage == "after":
        os.kill(os.getpid(), signal.SIGKILL)
Parts.append = counted
attribute_file(*sys.argv[1:4])
"""


@pytest.mark.parametrize(("last", "stage"), [(1, "before"), (2, "within"), (3, "after"), (5, "after")])
def test_a_run_that_was_killed_goes_on_where_it_stopped(
    tmp_path: Path, cells: Path, model: Path, monkeypatch: pytest.MonkeyPatch, last: int, stage: str
) -> None:
    monkeypatch.setattr("insignia_index.build.rows._CHUNK_CELLS", 7)
    out = tmp_path / "out.h5ad"
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, cells, model, out, str(last), stage], capture_output=True, text=True
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not out.exists()
    report = attribute_file(cells, model, out)
    done = last if stage == "after" else last - 1
    assert report.n_resumed == min(30, 7 * done)
    attribute_file(cells, model, tmp_path / "whole.h5ad")
    found, whole = (anndata.read_h5ad(path) for path in (out, tmp_path / "whole.h5ad"))
    # what each of two processes made: torch adds up in another order with another number of threads
    np.testing.assert_allclose(found.X.toarray(), whole.X.toarray(), rtol=1e-4)
    checks = [made.uns["attribution"]["checks"] for made in (found, whole)]
    assert checks[0] == pytest.approx(checks[1], rel=1e-2, abs=1e-6)
    assert checks[0]["n_cells_checked"] == checks[1]["n_cells_checked"]


def test_what_was_made_with_another_recipe_is_not_gone_on_with(
    tmp_path: Path, cells: Path, model: Path
) -> None:
    out = tmp_path / "out.h5ad"
    with Parts(tmp_path / "out.h5ad.partial", "of another recipe") as parts:
        parts.append(csr_matrix(np.ones((4, 37), np.float32)), {})
    assert attribute_file(cells, model, out).n_resumed == 0
    np.testing.assert_allclose(anndata.read_h5ad(out).X.toarray(), expected(cells, model, Recipe())[0], 1e-4)


def test_two_runs_of_one_output_do_not_mix(tmp_path: Path, cells: Path, model: Path) -> None:
    with (
        Parts(tmp_path / "out.h5ad.partial", "of another run"),
        pytest.raises(InvalidArgument, match="another process is at work"),
    ):
        attribute_file(cells, model, tmp_path / "out.h5ad")


def test_an_output_that_cannot_be_is_refused_at_once(tmp_path: Path, cells: Path, model: Path) -> None:
    for name, said in (("out.npz", r"must end in \.h5ad"), ("no/out.h5ad", "there is no directory")):
        with pytest.raises(InvalidArgument, match=said):
            attribute_file(cells, model, tmp_path / name)


def test_bad_counts_leave_nothing_behind_but_what_was_made(
    tmp_path: Path, cells: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("insignia_index.build.rows._CHUNK_CELLS", 7)
    monkeypatch.setattr("insignia_index.attribution.counts._RUN_ROWS", 1)  # which the sample does not see
    bad = anndata.read_h5ad(cells)
    bad.X.data[bad.X.indptr[15]] = np.nan
    bad.write_h5ad(cells)
    with pytest.raises(BadCount, match="row 15 has a value that is NaN"):
        attribute_file(cells, model, tmp_path / "out.h5ad")
    assert not (tmp_path / "out.h5ad").exists()


def test_a_build_with_a_model_equals_a_build_of_its_attributions(
    tmp_path: Path, cells: Path, model: Path
) -> None:
    attribute_file(cells, model, tmp_path / "out.h5ad")
    build_atlas(tmp_path / "two", [InputFile(tmp_path / "out.h5ad")], value_dtype="float32")
    at_once = InputFile(cells, attribution=Attribution(model))
    report = build_atlas(tmp_path / "one", [at_once], value_dtype="float32")
    assert report.added == ["A", "B"]
    with Atlas.open(tmp_path / "one") as one, Atlas.open(tmp_path / "two") as two:
        np.testing.assert_allclose(one.scores(GENES[5:9]).values, two.scores(GENES[5:9]).values, rtol=1e-5)
        assert [s.n_genes_measured for s in one.studies()] == [37, 37]
        recipes = [json.loads(atlas.studies()[0].recipe) for atlas in (one, two)]
    assert "digest" in recipes[1]
    assert recipes[0]["method"] == recipes[1]["method"] == "ig"
    assert recipes[0]["genes"] == recipes[1]["genes"]
    assert build_atlas(tmp_path / "one", [at_once], value_dtype="float32").unchanged == ["A", "B"]


def test_the_command_says_what_it_found(tmp_path: Path, cells: Path, model: Path) -> None:
    out = tmp_path / "out.h5ad"
    done = run("attribute", cells, "--model", model, "-o", out, "--steps", 9, "--target-sum", "none")
    assert done.exit_code == 0, done.output
    for words in (f"{out}: 30 cells, ", "counts: X (counts)", "37 of the model's 40 (37 exact)", "median "):
        assert words in done.output
    again = run("attribute", cells, "--model", model, "-o", out, "--steps", 9, "--target-sum", "none")
    assert again.output == f"{out}: made of this input with this recipe already\n"
    built = run("build", tmp_path / "atlas", out)
    assert built.exit_code == 0, built.output
    assert "method ig" in run("info", tmp_path / "atlas").output


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--method", "deeplift"], "rounding errors. Use ig"),
        (["--counts", "no such"], "no readable matrix 'no such'"),
        (["--target-sum", "much"], "neither a number nor none"),
        (["--min-genes", "38"], "37 of the model's 40 genes are there, 38 are needed"),
        (["--model-kind", "no such"], "no model of kind 'no such'; kinds and their files: "),
        (["--device", "cuda:77"], "'cuda:77' cannot be used here"),
    ],
)
def test_the_command_refuses_what_cannot_be(
    tmp_path: Path, cells: Path, model: Path, options: list[str], said: str
) -> None:
    command = ["attribute", cells, "--model", model, "-o", tmp_path / "out.h5ad", *options]
    done = run(*command)
    assert done.exit_code != 0
    assert said in f"{done.exception} {done.output}"
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith("out")] == []


def test_a_build_without_a_model_has_no_use_for_a_recipe(tmp_path: Path) -> None:
    done = run("build", tmp_path / "atlas", COUNTS, "--signed")
    assert (done.exit_code, "--signed says how attributions are made: give --model" in done.output) == (
        2,
        True,
    )
    assert not (tmp_path / "atlas").exists()


def test_a_folder_that_is_no_model_is_refused(tmp_path: Path, cells: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UnknownModel, match=r"no model that is known; .*scimilarity \(encoder\.ckpt, "):
        attribute_file(cells, tmp_path / "empty", tmp_path / "out.h5ad")


def test_an_output_takes_the_place_of_nothing_that_is_read(tmp_path: Path, cells: Path, model: Path) -> None:
    before = cells.read_bytes()
    (tmp_path / "link.h5ad").symlink_to(cells)
    (tmp_path / "folder.h5ad").mkdir()
    for out, said in (
        (cells, "is the input itself"),
        (tmp_path / "link.h5ad", "is the input itself"),
        (tmp_path / "folder.h5ad", "is a folder"),
        (model / "out.h5ad", "which is read"),
    ):
        with pytest.raises(InvalidArgument, match=said):
            attribute_file(cells, model, out, replace_output=True)
    assert cells.read_bytes() == before
    mine = tmp_path / "out.h5ad.partial" / "precious.txt"
    mine.parent.mkdir()
    mine.write_text("mine")
    with pytest.raises(InvalidArgument, match="a folder of something else"):
        attribute_file(cells, model, tmp_path / "out.h5ad")
    assert [path.name for path in mine.parent.iterdir()] == ["precious.txt"]


def test_a_column_out_of_range_is_told(tmp_path: Path, cells: Path, model: Path) -> None:
    for column in (10**6, -2):
        damaged = tmp_path / f"{column}.h5ad"
        damaged.write_bytes(cells.read_bytes())
        with h5py.File(damaged, "a") as file:
            indices = file["X/indices"][:]
            indices[3] = column
            file["X/indices"][:] = indices
        with pytest.raises(CorruptMatrix, match=r"row \d+ has a column out of range"):
            attribute_file(damaged, model, tmp_path / "out.h5ad")
        assert not (tmp_path / "out.h5ad.partial").exists()


def test_an_interrupted_command_says_where_it_goes_on(
    tmp_path: Path, cells: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(self: Parts, *given: object) -> None:
        self.n_cells += 1
        raise KeyboardInterrupt

    monkeypatch.setattr(Parts, "append", stop)
    done = run("attribute", cells, "--model", model, "-o", tmp_path / "out.h5ad")
    assert (done.exit_code, "out.h5ad.partial; the same command goes on" in done.output) == (1, True)


def test_attributions_are_no_counts(tmp_path: Path, cells: Path, model: Path) -> None:
    attribute_file(cells, model, tmp_path / "out.h5ad", Recipe(target_sum=None))
    with pytest.raises(NotCounts, match="has attributions already"):
        attribute_file(tmp_path / "out.h5ad", model, tmp_path / "again.h5ad", Recipe(values="normalised"))


def test_a_layer_has_no_place_beside_a_model(tmp_path: Path) -> None:
    done = run("build", "--model", DATA / "encoder", "--layer", "ig", tmp_path / "atlas", COUNTS)
    assert (done.exit_code, "named by --counts" in f"{done.exception}") == (1, True)


def test_text_that_may_be_missing_is_written(tmp_path: Path, cells: Path, model: Path) -> None:
    made = anndata.read_h5ad(cells)
    made.obs["note"] = pd.array(["a", None] * (made.n_obs // 2) + ["b"] * (made.n_obs % 2), "string")
    with anndata.settings.override(allow_write_nullable_strings=True):
        made.write_h5ad(tmp_path / "text.h5ad")
    attribute_file(tmp_path / "text.h5ad", model, tmp_path / "out.h5ad")
    notes = anndata.read_h5ad(tmp_path / "out.h5ad").obs["note"]
    assert notes.isna().tolist() == made.obs["note"].isna().tolist()
    assert [path.name for path in tmp_path.glob("out*")] == ["out.h5ad"]


def test_the_interferon_response_of_real_counts_is_highest_where_interferon_was_given(
    tmp_path: Path,
) -> None:
    build = ["build", "--model", DATA / "encoder", tmp_path / "atlas", COUNTS]
    done = run(*build)
    assert done.exit_code == 0, done.output
    with Atlas.open(tmp_path / "atlas") as atlas:
        found = atlas.search(["ISG15", "IFI6", "IFIT1", "IFIT3", "MX1"], group_by="sample").groups
    assert found["sample"].tolist() == ["kang_stimulated", "kang_control"]
    assert found["hit_fraction"].iloc[0] > 20 * max(found["hit_fraction"].iloc[1], 1e-3)


WHOLE = Path(os.environ.get("INSIGNIA_DATA", DATA.parents[2] / "shared" / "data"))


@pytest.mark.parametrize("study", ["pbmc3k", "baron2016"])
def test_attributions_of_whole_studies_equal_those_that_others_made(tmp_path: Path, study: str) -> None:
    counts_file = WHOLE / "expression" / f"{study}.h5ad"
    if not counts_file.exists() or not (WHOLE / "model").is_dir():
        pytest.skip(
            f"{WHOLE} has no expression/{study}.h5ad and model/; INSIGNIA_DATA names a folder that has"
        )
    recipe = Recipe(steps=24, quadrature="riemann_middle", strict=True)
    attribute_file(counts_file, WHOLE / "model", tmp_path / "out.h5ad", recipe)
    ours = anndata.read_h5ad(tmp_path / "out.h5ad")
    theirs: Any = anndata.read_h5ad(WHOLE / "attributions" / f"{study}.h5ad")[:, ours.var_names].X
    assert ours.X.nnz == theirs.nnz
    difference = (ours.X - theirs).power(2).sum() ** 0.5
    assert difference / theirs.power(2).sum() ** 0.5 < 1e-3
