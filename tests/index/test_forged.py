"""Forged files: out of range behind right checksums. An error; never a crash, never a read outside."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from insignia_index import Atlas, InputFile, build_atlas
from insignia_index.format.files import bytes_digest
from insignia_model.errors import UnsupportedFormat

from . import forge
from .forge import Postings
from .made import Study, build, study
from .test_damage import asked

CASES: dict[str, Callable[[Path], None]] = {}
LIST, BITMAP, FULL = 0, 1, 2  # the genes whose containers are of these kinds
N_CELLS = 100


def forged(make: Callable[[Path], None]) -> Callable[[Path], None]:
    CASES[make.__name__] = make
    return make


def made() -> Study:
    return study(
        "A", N_CELLS, 3, density=[0.05, 0.5, 1.0], tissue=["lung"] * N_CELLS, n_umi=np.arange(N_CELLS)
    )


def in_head(name: str, part: str, field: str, value: int) -> None:
    """A case in which a field of the head or of its block has a value."""

    def make(path: Path) -> None:
        postings = Postings(path)
        getattr(postings, part)[field] = value
        postings.write(checks=False)

    make.__name__ = name
    forged(make)


in_head("version_of_the_future", "head", "version", 2)
in_head("mark_of_something_else", "head", "magic", b"PARQUET")  # type: ignore[arg-type]
in_head("other_value_bits", "head", "value_bits", 32)
in_head("no_value_bits", "head", "value_bits", 0)
in_head("more_cells_in_the_head", "head", "n_cells", 101)
in_head("more_genes_than_the_vocabulary", "head", "n_genes", 64)
in_head("genes_without_end", "head", "n_genes", 2**32 - 1)
in_head("blocks_without_end", "head", "n_blocks", 2**32 - 1)
in_head("no_blocks", "head", "n_blocks", 0)
in_head("more_cells_in_a_block", "block", "n_cells", 65_535)
in_head("entries_without_end", "block", "n_entries", 2**32 - 1)
in_head("one_entry_too_few", "block", "n_entries", 2)
in_head("a_block_behind_the_file", "block", "offset", 1 << 40)
in_head("a_block_before_the_file", "block", "offset", 2**64 - 64)
in_head("a_block_that_is_not_aligned", "block", "offset", 65)
in_head("payload_without_end", "block", "payload_bytes", 2**64 - 8)
in_head("payload_to_the_sign", "block", "payload_bytes", 2**63 - 1)
in_head("no_payload", "block", "payload_bytes", 0)


@forged
def a_gene_that_the_vocabulary_lacked(path: Path) -> None:
    postings = Postings(path)
    postings.bits[0] |= np.uint64(1 << 5)
    postings.write()


@forged
def ranks_without_end(path: Path) -> None:
    postings = Postings(path)
    postings.ranks[0] = 2**32 - 1
    postings.write()


def in_entry(name: str, gene: int, change: Callable[[int], int]) -> None:
    def make(path: Path) -> None:
        postings = Postings(path)
        postings.entries[gene] = change(int(postings.entries[gene]))
        # sums over containers that lie anywhere are not to be had: these fail before
        postings.write(checks=False)

    make.__name__ = name
    forged(make)


in_entry("an_unknown_kind", LIST, lambda entry: entry | 3 << 16)
in_entry("a_container_behind_its_block", LIST, lambda entry: entry | (2**38 - 1) << 26)
in_entry("more_postings_than_cells", LIST, lambda entry: entry | 0xFFFF)
in_entry("more_values_than_bytes", FULL, lambda entry: entry + (1 << 26))


def in_container(name: str, gene: int, change: Callable[[np.ndarray, int], None]) -> None:
    """A case in which bytes of a gene's container are changed, given the number of its postings."""

    def make(path: Path) -> None:
        postings = Postings(path)
        change(postings.container(gene), (int(postings.entries[gene]) & 0xFFFF) + 1)
        postings.write()

    make.__name__ = name
    forged(make)


def set_id(container: np.ndarray, count: int, i: int, value: int) -> None:
    container[2 * count : 4 * count].view("<u2")[i] = value


def set_value(container: np.ndarray, at: int, bits: int) -> None:
    container[at : at + 2].view("<u2")[0] = bits


NAN, INFINITE = 0x7E00, 0xFC00
in_container("an_id_behind_the_last_cell", LIST, lambda c, n: set_id(c, n, n - 1, N_CELLS))
in_container("the_largest_id", LIST, lambda c, n: set_id(c, n, n - 1, 65_535))
in_container("ids_that_descend", LIST, lambda c, n: set_id(c, n, 0, 99))
in_container("an_id_twice", LIST, lambda c, n: set_id(c, n, 1, int(c[2 * n : 4 * n].view("<u2")[0])))
in_container("a_list_with_nan", LIST, lambda c, n: set_value(c, 0, NAN))
in_container("a_bitmap_with_nan", BITMAP, lambda c, n: set_value(c, 16, NAN))
in_container("a_bitmap_with_an_infinite_value", BITMAP, lambda c, n: set_value(c, 16 + 2 * n - 2, INFINITE))
in_container("a_column_with_nan", FULL, lambda c, n: set_value(c, 198, NAN))
in_container("a_bit_behind_the_last_cell", BITMAP, lambda c, n: c.__setitem__(15, c[15] | 0x80))
in_container("all_bits_set", BITMAP, lambda c, n: c.__setitem__(slice(0, 12), 0xFF))
in_container("no_bits_set", BITMAP, lambda c, n: c.__setitem__(slice(0, 16), 0))


def in_record(name: str, change: Callable[[forge.Records, forge.Records], object]) -> None:
    """A case in which the atlas record or the study's is changed."""

    def make(path: Path) -> None:
        forge.records(path, lambda atlas, one: (change(atlas, one), None)[1])

    make.__name__ = name
    forged(make)


in_record("a_head_before_the_file", lambda atlas, one: one["files"].update(head_offset=-64))
in_record("a_head_behind_the_file", lambda atlas, one: one["files"].update(head_offset=1 << 50))
in_record("a_head_that_is_not_aligned", lambda atlas, one: one["files"].update(head_offset=1))
in_record("a_head_of_no_bytes", lambda atlas, one: one["files"].update(head_bytes=0))
in_record("a_head_of_text", lambda atlas, one: one["files"].update(head_bytes="many"))
in_record("no_sizes", lambda atlas, one: one["files"].update(sizes={}))
in_record("another_size", lambda atlas, one: one["files"]["sizes"].update({"postings.bin": 10**6}))
in_record("cells_below_zero", lambda atlas, one: one.update(n_cells=-100))
in_record("more_cells_than_the_shard", lambda atlas, one: one.update(n_cells=101))
in_record("a_shard_outside_of_the_atlas", lambda atlas, one: one.update(shard="../../elsewhere"))
in_record("a_shard_of_this_folder", lambda atlas, one: one.update(shard=".."))
in_record("another_shard", lambda atlas, one: one.update(shard="B@2"))
in_record("a_word_that_nobody_knows", lambda atlas, one: one.update(colour="red"))
in_record("a_word_too_few", lambda atlas, one: one.pop("revision"))
in_record("another_value_dtype", lambda atlas, one: atlas.update(value_dtype="float32"))
in_record("a_value_dtype_that_nobody_writes", lambda atlas, one: atlas.update(value_dtype="float64"))
in_record("an_older_revision", lambda atlas, one: atlas.update(revision=0))
in_record("objects_as_values", lambda atlas, one: one["fields"]["n_umi"].update(dtype="O"))
in_record("a_dtype_that_is_none", lambda atlas, one: one["fields"]["tissue"].update(dtype="?!"))
in_record("a_kind_that_is_none", lambda atlas, one: one["fields"]["tissue"].update(kind="picture"))
in_record("a_longer_dictionary", lambda atlas, one: one["fields"]["tissue"].update(n_values=2))


@forged
def a_code_that_its_dictionary_lacks(path: Path) -> None:
    forge.column(path, "tissue", np.full(N_CELLS, 7, np.int8).tobytes())


@forged
def a_code_below_missing(path: Path) -> None:
    forge.column(path, "tissue", np.full(N_CELLS, -2, np.int8).tobytes())


@forged
def a_column_that_is_too_short(path: Path) -> None:
    forge.column(path, "n_umi", b"12345678")


@forged
def a_mask_that_is_too_short(path: Path) -> None:
    forge.column(path, "n_umi", np.arange(N_CELLS).tobytes(), n_missing=3)


def cell_ids(path: Path, raw: bytes) -> None:
    shard: list[str] = []
    forge.records(
        path, lambda atlas, one: (shard.append(one["shard"]), one.update(cells_digest=bytes_digest(raw)))[0]
    )
    forge.values(path, f"cells/{shard[0]}", raw)


@forged
def ids_that_end_too_early(path: Path) -> None:
    cell_ids(path, bytes(400))


@forged
def ids_that_go_back(path: Path) -> None:
    starts = np.arange(N_CELLS + 1, dtype=np.uint32) * 3
    starts[5] = 0
    cell_ids(path, starts.tobytes() + b"ab\0" * N_CELLS)


@forged
def a_vocabulary_that_is_not_text(path: Path) -> None:
    forge.values(path, "vocabulary", b"\xff\0" * 3)
    forge.records(path, lambda atlas, one: None)


@forged
def a_format_of_the_future(path: Path) -> None:
    forge.values(path, "format", json.dumps({"format": "insignia atlas", "version": 2}).encode())


@forged
def a_format_that_is_no_record(path: Path) -> None:
    forge.values(path, "format", b"[]")


VERSIONS = {"version_of_the_future", "a_format_of_the_future"}


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, str]]:
    """What became of every case, in one process."""
    folder = tmp_path_factory.mktemp("forged")
    path = build(folder, [made(), study("B", 20, 3)])
    lines = []
    for name, make in CASES.items():
        copy = folder / name
        shutil.copytree(path, copy)
        make(copy)
        lines.append(str(copy))
    return {Path(line).name: answer for line, answer in asked(path, lines).items()}


@pytest.mark.parametrize("name", CASES)
def test_a_forged_atlas_is_an_error(name: str, answers: dict[str, tuple[str, str]]) -> None:
    error = "UnsupportedFormat" if name in VERSIONS else "AtlasCorrupt"
    assert answers[name] == (error, error)


def test_an_atlas_forged_without_a_change_is_right(tmp_path: Path) -> None:
    path = build(tmp_path, [made(), study("B", 20, 3)])
    copy = tmp_path / "copy"
    shutil.copytree(path, copy)
    Postings(copy).write()
    assert [*asked(path, [str(copy)]).values()] == [("ok", "ok")]


def test_a_version_that_cannot_be_read_says_which_can(tmp_path: Path) -> None:
    path = build(tmp_path, [made()])
    a_format_of_the_future(path)
    with pytest.raises(UnsupportedFormat, match="format version 2, this version of insignia reads version 1"):
        Atlas.open(path)
    with pytest.raises(UnsupportedFormat):
        build_atlas(path, [InputFile(tmp_path / "0.h5ad")])
