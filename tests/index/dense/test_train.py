"""Making, keeping, replacing and losing the FAISS files of an atlas."""

import dataclasses
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from insignia_client.cli.main import insignia
from insignia_index import Atlas, InputFile, build_atlas
from insignia_index.build.build import remove_studies
from insignia_index.dense import train
from insignia_index.dense.record import CurvePoint
from insignia_index.verify import verify_atlas
from insignia_model.errors import AtlasCorrupt, EngineUnavailable, InvalidArgument

from ..made import build, study, tree, write_h5ad

MADE = [study(name, 60, 400, density=0.3, seed=seed) for seed, name in enumerate("AB")]
GENES = [f"G{i}" for i in range(20)]


def faiss_files(path: Path) -> set[str]:
    """Below the folder."""
    root = path / "faiss"
    return {str(p.relative_to(root)) for p in root.rglob("*") if p.is_file()} if root.exists() else set()


def kinds(path: Path) -> dict[str, str]:
    """Of the indexes of all studies."""
    with Atlas.open(path) as atlas:
        return {info.study: info.faiss for info in atlas.studies()}


def same_as_exact(path: Path) -> None:
    """Both engines give the same; everything is as it was written."""
    with Atlas.open(path) as atlas:
        exact, found = atlas.search(GENES, k=40), atlas.search(GENES, k=40, engine="faiss")
        assert found.engine == "faiss"
        np.testing.assert_allclose(found.cells["score"], exact.cells["score"], rtol=1e-5)
    verify_atlas(path)


def all_are_found(path: Path) -> None:
    """However many lists there are; the best of few candidates have exact scores, too."""
    with Atlas.open(path) as atlas:
        n = atlas.info().n_cells
        exact, found = atlas.search(GENES, k=n), atlas.search(GENES, k=n, engine="faiss")
        np.testing.assert_allclose(found.cells["score"], exact.cells["score"], rtol=1e-5, atol=1e-6)
        known = exact.cells.set_index(["study", "cell_id"])["score"]
        few = atlas.search(GENES, k=20, engine="faiss").cells
        assert len(few) == 20
        own = known.loc[list(zip(few["study"], few["cell_id"], strict=True))]
        np.testing.assert_allclose(few["score"], own, rtol=1e-5)
    verify_atlas(path)


def test_an_atlas_is_built_without_unless_it_is_asked_for(tmp_path: Path) -> None:
    path = build(tmp_path, MADE)
    assert kinds(path) == {"A": "", "B": ""}
    assert not (path / "faiss").exists()


def test_new_studies_get_an_index_of_the_same_codec(tmp_path: Path) -> None:
    path = build(tmp_path, MADE[:1], faiss="projected")
    assert faiss_files(path) == {"1/codec.npz", "1/A@1.index", "1/A@1.rows"}
    codec = (path / "faiss/1/codec.npz").read_bytes()
    report = build_atlas(path, [InputFile(write_h5ad(tmp_path / "b.h5ad", MADE[1]))])
    assert report.faiss is not None
    assert report.faiss.studies == ["B"]
    assert kinds(path) == {"A": "projected", "B": "projected"}
    assert (path / "faiss/1/codec.npz").read_bytes() == codec
    same_as_exact(path)
    before = tree(path)
    again = build_atlas(path, [InputFile(tmp_path / "b.h5ad")])
    assert again.unchanged == ["B"]
    assert tree(path) == before


def test_what_is_replaced_or_removed_leaves_no_files(tmp_path: Path) -> None:
    path = build(tmp_path, MADE, faiss="projected")
    other = study("B", 30, 400, density=0.3, seed=9)
    build_atlas(path, [InputFile(write_h5ad(tmp_path / "b.h5ad", other))], replace=True)
    assert {name for name in faiss_files(path) if "B@" in name} == {"1/B@3.index", "1/B@3.rows"}
    same_as_exact(path)
    remove_studies(path, ["A"])
    assert faiss_files(path) == {"1/codec.npz", "1/B@3.index", "1/B@3.rows"}
    same_as_exact(path)


def test_retrain_replaces_codec_and_indexes_as_one_revision(tmp_path: Path) -> None:
    path = build(tmp_path, MADE, faiss="projected")
    rows = path / "faiss/1/A@1.rows"
    inode = rows.stat().st_ino
    with Atlas.open(path) as reader:
        reader.search(GENES, engine="faiss")
        revision = reader.info().revision
        report = train.retrain(path, n_dimensions=16)
        assert report.revision == revision + 1
        assert reader.search(GENES, engine="faiss").engine == "faiss"  # of the revision that it holds
        reader.refresh()
        assert json.loads(reader.info().faiss)["n_dimensions"] == 16
    assert faiss_files(path) == {
        f"2/{n}" for n in ("codec.npz", "A@1.index", "A@1.rows", "B@2.index", "B@2.rows")
    }
    # rows know no codec: they are kept
    assert (path / "faiss/2/A@1.rows").stat().st_ino == inode
    same_as_exact(path)
    train.retrain(path, "exact")
    assert kinds(path) == {"A": "exact", "B": "exact"}
    same_as_exact(path)
    assert train.retrain(path, "none").record is None
    assert not (path / "faiss").exists()
    assert kinds(path) == {"A": "", "B": ""}


def test_a_panel_gets_company_that_needs_a_codec(tmp_path: Path) -> None:
    path = build(tmp_path, MADE[:1], faiss="auto")
    assert kinds(path) == {"A": "exact"}
    wide = study("wide", 50, 2_100, density=0.1)
    build_atlas(path, [InputFile(write_h5ad(tmp_path / "w.h5ad", wide))])
    assert kinds(path) == {"A": "exact", "wide": "projected"}
    same_as_exact(path)


@pytest.mark.parametrize("name", ["codec.npz", "A@1.index", "A@1.rows"])
@pytest.mark.parametrize("how", ["flip", "cut", "gone"])
def test_damage_is_noticed_and_the_exact_engine_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, how: str
) -> None:
    path = build(tmp_path, MADE, faiss="projected")
    target = path / "faiss/1" / name
    raw = bytearray(target.read_bytes())
    if how == "gone":
        target.unlink()
    else:
        raw[len(raw) // 2] ^= 4
        target.write_bytes(raw if how == "flip" else raw[: len(raw) // 2])
    with Atlas.open(path) as atlas:
        with pytest.raises(AtlasCorrupt, match="insignia retrain"):
            atlas.search(GENES, engine="faiss")
        assert len(atlas.search(GENES).cells) == 100
        # auto would take FAISS here
        dense = atlas._session.dense
        assert dense is not None
        curve = [CurvePoint(100, {"100": 1.0}, {"100": 1.0}, 0.1)]
        dense.record = dataclasses.replace(dense.record, recall={"signature": curve})
        assert atlas.search(GENES, groups=False).engine == "sparse"
        assert "answered exactly" in caplog.text
        assert name in caplog.text
    with pytest.raises(AtlasCorrupt, match=re.escape(name)):
        verify_atlas(path)
    train.retrain(path)
    same_as_exact(path)


def test_a_revision_whose_indexes_are_removed_is_outdated_and_not_damaged(tmp_path: Path) -> None:
    path = build(tmp_path, [study("A", 50, 30), study("B", 50, 30)], faiss="exact")
    with Atlas.open(path) as atlas:
        remove_studies(path, ["B"])
        with pytest.raises(EngineUnavailable, match="newer revision than 2"):
            atlas.search(["G1"], engine="faiss", groups=False)
        assert atlas.search(["G1"], groups=False).n_cells == 100
        assert atlas.refresh()
        assert atlas.search(["G1"], engine="faiss", groups=False).n_cells == 50


def test_a_failure_leaves_the_published_studies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> float:
        raise OSError("no more")

    with monkeypatch.context() as patch:
        patch.setattr(train, "write_projected", fail)
        with pytest.raises(OSError, match="no more"):
            build(tmp_path, MADE, faiss="projected")
    path = tmp_path / "atlas"
    assert kinds(path) == {"A": "", "B": ""}
    assert faiss_files(path) == set()
    with Atlas.open(path) as atlas:
        assert len(atlas.search(GENES).cells) == 100
    # the same build goes on where it stopped
    files = [InputFile(tmp_path / f"{i}.h5ad") for i in range(2)]
    assert build_atlas(path, files, faiss="projected").unchanged == ["A", "B"]
    same_as_exact(path)


def test_leftovers_are_cleared_by_the_next_writer(tmp_path: Path) -> None:
    path = build(tmp_path, MADE, faiss="projected")
    before = tree(path)
    for name in (".staging/x.rows", "7/codec.npz", "1/Z@9.index"):
        left = path / "faiss" / name
        left.parent.mkdir(exist_ok=True)
        left.write_bytes(b"left over")
    build_atlas(path, [InputFile(tmp_path / "0.h5ad")])
    assert tree(path) == before


def test_what_cannot_be_made_is_refused_before_anything_is_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InvalidArgument, match="is not one of auto, exact, projected, none"):
        build(tmp_path, MADE, faiss="hnsw")
    monkeypatch.setitem(__import__("sys").modules, "faiss", None)
    with pytest.raises(EngineUnavailable, match="pip install"):
        build(tmp_path, MADE, faiss="auto")
    assert not (tmp_path / "atlas").exists()
    monkeypatch.undo()
    wide = study("wide", 20, 9_000, density=0.01)
    path = build(tmp_path, [wide])
    with pytest.raises(InvalidArgument, match="'wide' measured 9,000 genes, and exact takes at most 8,192"):
        train.retrain(path, "exact")
    with pytest.raises(InvalidArgument, match="below 1"):
        train.retrain(path, "projected", n_dimensions=0)


def test_the_share_that_is_kept_tells_of_drift(tmp_path: Path) -> None:
    path = build(tmp_path, MADE[:1], faiss="projected")
    # genes of its own, of which the codec knows nothing
    other = study("Z", 60, [f"H{i}" for i in range(400)], density=0.3)
    build_atlas(path, [InputFile(write_h5ad(tmp_path / "z.h5ad", other))])
    with Atlas.open(path) as atlas:
        kept = {info.study: info.faiss_kept for info in atlas.studies()}
    assert kept["A"] > 0.9
    assert kept["Z"] == 0.0
    same_as_exact(path)


def test_lists_are_shared_and_large_studies_have_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("insignia_index.dense.index._WORTH_LISTS", 100)
    monkeypatch.setattr("insignia_index.dense.index._CELLS_A_LIST", 50)
    monkeypatch.setattr("insignia_index.dense.index.LARGE_STUDY", 200)
    monkeypatch.setattr("insignia_index.dense.train.PANEL_GENES", 10)
    made = [study("A", 400, 100, density=0.5), study("B", 90, 100, density=0.5, seed=1)]
    path = build(tmp_path, made, faiss="auto")
    with Atlas.open(path) as atlas:
        assert json.loads(atlas.info().faiss)["n_lists"] == 8
    assert "1/lists.index" in faiss_files(path)
    all_are_found(path)
    build_atlas(path, [InputFile(write_h5ad(tmp_path / "c.h5ad", study("C", 300, 100, density=0.5, seed=2)))])
    all_are_found(path)


def test_the_command_line(tmp_path: Path) -> None:
    runner = CliRunner()
    file = write_h5ad(tmp_path / "a.h5ad", study("A", 300, 2_100, density=0.05))
    path = str(tmp_path / "atlas")

    def run(*words: str) -> str:
        result = runner.invoke(insignia, list(words), catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.output

    built = run("build", path, str(file), "--faiss", "auto")
    assert "FAISS: 1 index written (revision 2)" in built
    assert "recall of a profile with" in built
    assert "nothing to do: 1 study already there, unchanged (revision 2)" in run("build", path, str(file))
    shown = run("info", path)
    assert "FAISS     auto, version 1, 128 dimensions" in shown
    assert "FAISS projected (" in shown
    assert "% kept)" in shown
    assert "32 dimensions" in run("retrain", path, "--dimensions", "32") + run("info", path)
    assert "FAISS: no indexes" in run("retrain", path, "--faiss", "none")
    assert "FAISS" not in run("info", path)
    assert "nothing to do" not in run("build", path, str(file), "--faiss", "exact")
    shutil.rmtree(path)
