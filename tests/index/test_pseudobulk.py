"""Sums per unit of cells: equal to what searches score, however they are kept; damage and misuse are told."""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import false_discovery_control

from insignia_index import Atlas
from insignia_index.cli.build import build as build_command
from insignia_index.format import pseudobulk as format_
from insignia_index.format.files import ShardFiles, file_digest
from insignia_index.null.pseudobulk import Pseudobulk
from insignia_index.verify import verify_atlas
from insignia_model.errors import AtlasCorrupt, GroupsNotWhole, InvalidArgument, NoPseudobulk

from . import strategies
from .made import blocks_of, build, study, tree, write_h5ad
from .oracle import plain

FIELDS = ["sample", "tissue", "age", "batch", "doublet"]


@contextmanager
def kept(share: float) -> Iterator[None]:
    """Sums are in a file (a large share), or added up when they are asked for (0)."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(format_, "LARGEST_SHARE", share)
        yield


def key(values: tuple) -> tuple:
    """Values of a unit, whatever library's scalars they are."""
    return tuple(v if v is None or isinstance(v, str) else float(v) for v in values)


@settings(max_examples=40)
@given(
    made=strategies.studies(),
    fields=st.sets(st.sampled_from(FIELDS), min_size=1, max_size=3),
    share=st.sampled_from([0.0, 1.0, 1e9]),
    block=st.sampled_from([7, 65_536]),
    value_dtype=st.sampled_from(["float16", "float32"]),
)
def test_sums_are_those_of_the_scores_of_single_genes(made, fields, share, block, value_dtype):
    has = [field for field in fields if any(field in one.obs for one in made)] or ["sample"]
    with TemporaryDirectory() as folder, kept(share), blocks_of(block):
        path = build(Path(folder), made, pseudobulk=has, value_dtype=value_dtype)
        verify_atlas(path)
        with Atlas.open(path, threads=2) as atlas:
            snapshot = atlas._session.snapshot
            sums = Pseudobulk(snapshot)
            ordered = sorted(made, key=lambda one: one.name.encode())
            cells = [
                (one.name, *(plain(one.obs[f].iloc[i]) if f in one.obs else None for f in has))
                for one in ordered
                for i in range(len(one.obs))
            ]
            columns = [column.to_list() for column in sums.units.columns.values()]
            number = {key(unit): i for i, unit in enumerate(zip(*columns[:-1], strict=True))}
            assert len(number) == sums.n_units
            assert set(map(key, cells)) == set(number)
            of_unit = np.array([number[key(cell)] for cell in cells])
            assert np.array_equal(sums.n_cells, np.bincount(of_unit, minlength=len(number)))

            found = sums.group_sums(np.arange(len(number)), len(number))
            wanted, size = np.zeros(found.shape), np.zeros(found.shape)
            for g, gene in enumerate(snapshot.genes):
                values = atlas.scores([gene], aggregate="sum").values.astype(np.float64)
                wanted[:, g] = np.bincount(of_unit, values, len(number))
                size[:, g] = np.bincount(of_unit, np.abs(values), len(number))
            assert (np.abs(found - wanted) <= 1e-6 * size).all()


def test_small_units_have_no_file_and_large_ones_do(tmp_path):
    many = study("A", 600, 30, sample=["s"] * 300 + ["t"] * 300, cell_type=["t"] * 600, seed=1)
    few = study("B", 60, 30, cell_type=[str(i) for i in range(60)], seed=1)
    path = build(tmp_path, [many, few])
    assert [p.parent.name for p in path.glob("shards/*/pseudobulk.bin")] == ["A@1"]
    for atlas_file in path.glob("shards/*/pseudobulk.bin"):
        assert atlas_file.stat().st_size <= np.count_nonzero(many.values)


def test_a_study_that_is_removed_while_it_is_searched_keeps_its_sums(tmp_path):
    from insignia_index import remove_studies

    made = [study(name, 200, 30, sample=["s"] * 200, cell_type=["t"] * 200) for name in "AB"]
    path = build(tmp_path, made)
    with Atlas.open(path) as atlas:
        groups = atlas.search(["G1", "G2"], null=True).group_table
    with Atlas.open(path) as atlas:
        remove_studies(path, ["A"])
        again = atlas.search(["G1", "G2"], null=True).group_table
    for name in ("study", "n_cells"):
        assert groups[name].to_list() == again[name].to_list()
    for name in ("mean", "null_mean", "null_sd", "null_z"):
        np.testing.assert_allclose(groups[name].values, again[name].values, rtol=1e-3)


# --- questions that cannot be answered -----------------------------------------------------------------


def typed(n: int) -> dict[str, list[str]]:
    return {"cell_type": ["x", "y"] * (n // 2), "batch": [str(i % 3) for i in range(n)]}


@pytest.fixture
def path(tmp_path):
    return build(tmp_path, [study(name, 60, 40, **typed(60)) for name in "AB"])


@pytest.mark.parametrize(
    "question",
    [{"group_by": ("study", "batch")}, {"where": {"batch": "1"}}, {"group_by": "batch"}],
    ids=["tuple", "filter", "field"],
)
def test_groups_that_divide_units_are_refused_by_the_field(path, question):
    with Atlas.open(path) as atlas, pytest.raises(GroupsNotWhole, match="'batch' divides") as raised:
        atlas.search(["G1"], null=True, **question)
    assert raised.value.data == {"field": "batch", "study": "A", "kept": "sample,cell_type"}
    assert "--pseudobulk sample,cell_type,batch" in str(raised.value)


@pytest.mark.parametrize(
    "question",
    [
        {"group_by": ()},
        {"group_by": ("cell_type", "sample", "study")},
        {"where": {"cell_type": "x", "study": "A"}},
        {"where": {"cell_type": "none such"}},
        {"min_coverage": 0.5},
    ],
    ids=repr,
)
def test_groups_of_whole_units_have_the_searchs_means(path, question):
    with Atlas.open(path) as atlas:
        asked = {"min_cells": 1} | question
        table = atlas.search({"G1": 1.0, "G5": -2.0, "G7": 0.5}, null=True, **asked).group_table
        plainly = atlas.search({"G1": 1.0, "G5": -2.0, "G7": 0.5}, **question).group_table
    assert [*table.columns] == [
        *plainly.columns, "null_mean", "null_sd", "null_z", "null_p", "null_fdr"
    ]  # fmt: skip
    z = (table["mean"].values - table["null_mean"].values) / table["null_sd"].values
    np.testing.assert_allclose(z, table["null_z"].values, rtol=1e-4, atol=1e-4)


def test_groups_of_few_cells_are_not_tested_and_not_counted_in_the_fdr(tmp_path):
    made = [study(name, n, 40, **typed(n)) for name, n in (("A", 60), ("B", 8), ("C", 10))]
    with Atlas.open(build(tmp_path, made)) as atlas:
        every = atlas.search({"G1": 1.0, "G5": -2.0}, null=True, min_cells=1).groups.set_index("study")
        table = atlas.search({"G1": 1.0, "G5": -2.0}, null=True).groups.set_index("study")
        screened = atlas.screen({"x": {"G1": 1.0, "G5": -2.0}}, null=True).to_frame().set_index("study")
    assert every.null_p.notna().all()
    for found in (table, screened):
        assert found.null_p[found.null_p.isna()].index.tolist() == ["B"]
        assert np.isnan(found.null_z["B"])
        assert np.isnan(found.null_fdr["B"])
        assert found.null_mean.notna().all()
    assert table.null_fdr["A"] == pytest.approx(
        false_discovery_control(table.null_p[["A", "C"]])[0], abs=1e-12
    )


def test_a_field_that_happens_not_to_divide_units_may_be_asked_for(tmp_path):
    donors = study("A", 60, 40, donor=[f"d{i // 20}" for i in range(60)])
    with Atlas.open(build(tmp_path, [donors], pseudobulk=["sample"])) as atlas:
        assert len(atlas.search(["G1"], group_by="donor", null=True).group_table) == 3


def test_an_atlas_without_sums_says_how_to_get_them(tmp_path):
    with Atlas.open(build(tmp_path, [study("A")], pseudobulk=[])) as atlas:
        assert atlas.search(["G1"]).n_cells == 40
        with pytest.raises(NoPseudobulk, match="insignia build --pseudobulk"):
            atlas.search(["G1"], null=True)


def test_the_fields_are_chosen_once(tmp_path):
    path = build(tmp_path, [study("A", **typed(40))], pseudobulk=["batch"])
    before = tree(path)
    with pytest.raises(InvalidArgument, match="keeps sums by batch"):
        build(tmp_path, [study("B", **typed(40))], pseudobulk=["sample"])
    assert tree(path) == before
    build(tmp_path, [study("B", **typed(40))])
    with Atlas.open(path) as atlas:
        assert atlas._session.nulls.pseudobulk.fields == ("batch",)
    with pytest.raises(InvalidArgument, match="no study has the field 'none such'"):
        build(tmp_path, [study("C")], atlas="new", pseudobulk=["none such"])
    assert not (tmp_path / "new").exists()
    for wrong in (["batch", "batch"], "batch"):
        with pytest.raises(InvalidArgument):
            build(tmp_path, [study("C", **typed(40))], atlas="new", pseudobulk=wrong)


@pytest.mark.parametrize(
    ("option", "fields"),
    [([], ("sample", "cell_type")), (["--pseudobulk", "batch,sample"], ("batch", "sample")),
     (["--pseudobulk", "none"], ())],
)  # fmt: skip
def test_the_command_takes_the_fields(tmp_path, option, fields):
    file = write_h5ad(tmp_path / "a.h5ad", study("A", **typed(40)))
    done = CliRunner().invoke(build_command, [*option, str(tmp_path / "atlas"), str(file)])
    assert done.exit_code == 0, done.output
    with Atlas.open(tmp_path / "atlas") as atlas:
        assert atlas._session.snapshot.record.pseudobulk == fields


# --- damage --------------------------------------------------------------------------------------------


@pytest.fixture
def stored(tmp_path):
    made = study("A", 600, 30, sample=["s"] * 590 + [f"t{i}" for i in range(10)], cell_type=["t"] * 600)
    path = build(tmp_path, [made])
    (file,) = path.glob("shards/*/pseudobulk.bin")
    return path, file


def test_every_changed_byte_is_noticed_when_it_is_read(stored):
    path, file = stored
    raw = file.read_bytes()
    for offset in range(0, len(raw), 29):
        changed = bytearray(raw)
        changed[offset] ^= 1 << offset % 8
        file.write_bytes(changed)
        with Atlas.open(path) as atlas:
            assert atlas.search(["G1"]).n_cells == 600
            with pytest.raises(AtlasCorrupt, match=r"pseudobulk\.bin"):
                atlas.search(["G1"], null=True)
        with pytest.raises(AtlasCorrupt, match=r"pseudobulk\.bin"):
            verify_atlas(path)
    for size in (0, 1, 31, 32, len(raw) - 1):
        file.write_bytes(raw[:size])
        with Atlas.open(path) as atlas, pytest.raises(AtlasCorrupt, match=r"pseudobulk\.bin"):
            atlas.search(["G1"], null=True)
    file.unlink()
    with pytest.raises(AtlasCorrupt, match=r"pseudobulk\.bin: it is missing"):
        verify_atlas(path)


def test_forged_files_are_refused_or_harmless(stored):
    """Whatever the bytes are, behind a right digest: an error, or sums of genes and units that are there."""
    _, file = stored
    raw, cells = file.read_bytes(), np.array([590] + [1] * 10)
    rng = np.random.default_rng(0)
    n_refused = 0
    for offset, size in itertools.product(range(0, len(raw), 5), (1, 4)):
        changed = bytearray(raw)
        changed[offset : offset + size] = rng.bytes(min(size, len(raw) - offset))
        file.write_bytes(changed)
        files = ShardFiles(0, 0, "", {file.name: len(raw)}, {file.name: file_digest(file)})
        try:
            sums = format_.read_sums(file.parent, files, cells)
        except AtlasCorrupt:
            n_refused += 1
            continue
        assert len(sums.bits) == len(sums.genes)
        assert np.unpackbits(sums.bits, axis=1, bitorder="little")[:, 11:].sum() == 0
        assert np.unpackbits(sums.bits).sum() == len(sums.values)
    assert n_refused > 50
