"""A bad input gives its error, the message says where, and nothing is left behind."""

from pathlib import Path

import numpy as np
import pytest

from insignia_index import Atlas, InputFile, build_atlas
from insignia_index.build import errors as e
from insignia_model.errors import InputError

from . import bad_metadata  # noqa: F401  # registers its cases
from .bad_inputs import CASES
from .made import build, study, tree, write_h5ad


@pytest.mark.parametrize("name", CASES)
def test_a_bad_input_is_refused_and_changes_nothing(name: str, tmp_path: Path) -> None:
    make, error, words = CASES[name]
    good = study("good", 15, age=np.arange(15.0))
    path = build(tmp_path, [good])
    before = tree(path)
    folder = tmp_path / "input"
    folder.mkdir()
    # a good file comes first: what was staged of it must vanish too
    files = [InputFile(write_h5ad(folder / "first.h5ad", study("first"))), make(folder)]
    with pytest.raises(error) as caught:
        build_atlas(path, files)
    assert type(caught.value) is error
    for word in words:
        assert word in caught.value.message
    assert tree(path) == before
    assert not (path / "shards" / ".staging").exists()
    with Atlas.open(path) as atlas:
        assert [s.study for s in atlas.studies()] == ["good"]


@pytest.mark.parametrize(
    "name", [name for name in CASES if CASES[name][1] not in (e.StudyExists, e.StudyTwice, e.FieldConflict)]
)
def test_a_bad_input_to_a_new_atlas_leaves_no_atlas(name: str, tmp_path: Path) -> None:
    make, error, _ = CASES[name]
    with pytest.raises(error):
        build_atlas(tmp_path / "new" / "atlas", [make(tmp_path)])
    assert not (tmp_path / "new" / "atlas").exists()


def test_every_class_of_input_error_is_met() -> None:
    classes = {c for c in vars(e).values() if isinstance(c, type) and issubclass(c, InputError)}
    # no files of attributions: tests/index/test_gene_table.py, tests/index/test_import_errors.py
    elsewhere = {e.UnreadableGeneTable, e.NoAttributions, e.UnsupportedArray}
    classes -= {InputError}
    assert {error for _, error, _ in CASES.values()} == classes - elsewhere
    for error in classes:
        assert error.__name__ in (e.__doc__ or "")
