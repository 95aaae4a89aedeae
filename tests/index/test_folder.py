"""The atlas directory: made, found, locked, cleared; and an atlas that is open meanwhile."""

import gc
import weakref
from pathlib import Path

import pytest

from insignia_index import Atlas, InputFile, build_atlas, remove_studies
from insignia_index.catalog.lock import writer_lock
from insignia_index.verify import verify_atlas
from insignia_model.errors import AtlasClosed, AtlasCorrupt, AtlasLocked, AtlasNotFound, InvalidArgument

from .made import Study, build, study, tree, write_h5ad


def file_of(folder: Path, made: Study) -> InputFile:
    return InputFile(write_h5ad(folder / f"{made.name}.h5ad", made))


def names(path: Path) -> list[str]:
    with Atlas.open(path) as atlas:
        return [study.study for study in atlas.studies()]


def test_a_new_atlas_is_found_neither_by_readers_nor_by_add_before_it_is_built(tmp_path: Path) -> None:
    for action in (
        lambda: Atlas.open(tmp_path / "atlas"),
        lambda: verify_atlas(tmp_path / "atlas"),
        lambda: remove_studies(tmp_path / "atlas", ["A"]),
        lambda: build_atlas(tmp_path / "atlas", [file_of(tmp_path, study("A"))], create=False),
    ):
        with pytest.raises(AtlasNotFound, match="insignia build"):
            action()
    assert not (tmp_path / "atlas").exists()


def test_a_folder_that_held_something_else_keeps_it(tmp_path: Path) -> None:
    folder = tmp_path / "atlas"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(InvalidArgument, match=r"it has notes\.txt"):
        build_atlas(folder, [file_of(tmp_path, study("A"))])
    assert tree(folder) == {"notes.txt": b"mine"}
    assert [*folder.iterdir()] == [folder / "notes.txt"]


def test_a_file_in_place_of_the_atlas_is_refused(tmp_path: Path) -> None:
    file = file_of(tmp_path, study("A"))
    before = tree(tmp_path)
    for path in (file.path, file.path / "atlas"):
        with pytest.raises(InvalidArgument, match=r"A\.h5ad"):
            build_atlas(path, [file])
    assert tree(tmp_path) == before


def test_a_second_writer_is_told_who_writes(tmp_path: Path) -> None:
    path = build(tmp_path, [study("A")])
    before = tree(path)
    with writer_lock(path):
        for action in (
            lambda: build_atlas(path, [file_of(tmp_path, study("B"))]),
            lambda: remove_studies(path, ["A"]),
        ):
            with pytest.raises(AtlasLocked, match=r"process \d+"):
                action()
        assert names(path) == ["A"]
    assert tree(path) == before
    assert remove_studies(path, ["A"]) == 2


def test_an_open_atlas_can_be_opened_again_and_written(tmp_path: Path) -> None:
    path = build(tmp_path, [study("A")])
    link = tmp_path / "link"
    link.symlink_to(path)
    with Atlas.open(path) as first:
        with Atlas.open(link) as second:
            build_atlas(link, [file_of(tmp_path, study("B"))])
            assert second.refresh()
            assert not first.search(["G1"]).groups.empty
        assert first.refresh()
        assert len(first.studies()) == 2


def test_a_closed_atlas_says_so_and_its_stream_goes_on(tmp_path: Path) -> None:
    path = build(tmp_path, [study("A"), study("B")])
    atlas = Atlas.open(path)
    stream = atlas.iter_scores(["G1"], cell_ids=True)
    assert next(stream).study == "A"
    atlas.close()
    atlas.close()
    assert "closed" in repr(atlas)
    with pytest.raises(AtlasClosed, match="closed"):
        atlas.search(["G1"])
    rest = next(stream)
    assert (rest.study, rest.cell_ids[:2]) == ("B", ("c0", "c1"))


def test_a_closed_atlas_lets_go_of_its_catalog_without_a_garbage_collection(tmp_path: Path) -> None:
    path = build(tmp_path, [study("A"), study("B")])
    gc.collect()
    gc.disable()
    try:
        atlas = Atlas.open(path)
        atlas.search(["G0"])
        snapshot = weakref.ref(atlas._session.snapshot)
        atlas.close()
        assert snapshot() is None
    finally:
        gc.enable()


def test_leftovers_of_a_writer_that_died_are_cleared(tmp_path: Path) -> None:
    path = build(tmp_path, [study("A")])
    for name in ("B@7", ".staging/C@9", "A@1.old"):
        (path / "shards" / name).mkdir(parents=True)
        (path / "shards" / name / "postings.bin").write_bytes(b"?")
    (path / "shards" / "A@1" / "metadata.bin").write_bytes(b"?")
    build_atlas(path, [file_of(tmp_path, study("B"))])
    assert sorted(str(p) for p in tree(path)) == sorted(
        ["meta.lmdb", "revision"]
        + [f"shards/{s}/{f}" for s in ("A@1", "B@2") for f in ("genes.bin", "manifest.json", "postings.bin")]
    )


def test_shards_are_not_thrown_away_because_their_catalog_is_lost(tmp_path: Path) -> None:
    path = build(tmp_path, [study("A")])
    (path / "meta.lmdb").unlink()
    with pytest.raises(AtlasCorrupt, match="A@1"):
        build_atlas(path, [file_of(tmp_path, study("B"))])
    assert (path / "shards" / "A@1" / "postings.bin").exists()
