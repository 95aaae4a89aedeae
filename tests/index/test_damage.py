"""Damaged files give a typed error, or the right answer where nobody reads them; never a crash."""

import json
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from tests.golden.make import studies

from insignia_index import Atlas
from insignia_index.catalog.store import check_pages
from insignia_model.errors import AtlasCorrupt

from .hostile import ask, everything
from .made import build, study

PROJECT = Path(__file__).parents[2]
TYPED = {"AtlasCorrupt", "AtlasNotFound", "UnsupportedFormat"}


def asked(atlas: Path, lines: Sequence[str]) -> dict[str, tuple[str, str]]:
    """What a process of its own answers to each line; see `hostile`."""
    answers: dict[str, tuple[str, str]] = {}
    catalog = (atlas / "meta.lmdb").read_bytes()
    while left := lines[len(answers) :]:
        done = subprocess.run(
            [sys.executable, "-m", "tests.index.hostile", str(atlas)],
            input="".join(f"{line}\n" for line in left), cwd=PROJECT, capture_output=True, text=True,
        )  # fmt: skip
        for line in done.stdout.splitlines():
            asked, answer, verified = line.rsplit("\t", 2)
            answers[asked] = (answer, verified)
        if len(answers) < len(lines):
            died = lines[len(answers)]
            assert died.startswith("meta.lmdb"), f"died of {died[:200]!r}: {done.stderr[-1000:]}"
            # LMDB trusts the lengths in its pages. Who asks `verify` first is warned before LMDB reads them.
            with pytest.raises(AtlasCorrupt, match="pages are damaged"):
                check_pages(atlas)
            answers[died] = ("died in LMDB", "AtlasCorrupt")
            (atlas / "meta.lmdb").write_bytes(catalog)
    return answers


@pytest.fixture(scope="module")
def atlas(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("damage"), studies())


def files(atlas: Path) -> Iterator[tuple[str, bytes]]:
    for path in sorted(atlas.rglob("*")):
        if path.is_file() and "lock" not in path.name.removeprefix("meta."):
            content = path.read_bytes()
            # the catalog ends in a hole that belongs to nobody
            yield str(path.relative_to(atlas)), content.rstrip(b"\0") if path.name == "meta.lmdb" else content


def flips(atlas: Path) -> list[str]:
    """One bit of every so many bytes."""
    lines = []
    for name, content in files(atlas):
        step = 97 if name == "meta.lmdb" else 101 if name.endswith(".json") else 37
        for i, offset in enumerate(range(0, len(content), step)):
            lines.append(f"{name}\t{offset}\t{content[offset] ^ 1 << i % 8:02x}")
    return lines


def garbage(atlas: Path) -> list[str]:
    """Runs of zeros, ones and random bytes, many of them where pages and their headers begin."""
    rng, lines = random.Random(7), []
    for name, content in files(atlas):
        for _ in range(120 if name == "meta.lmdb" else 25):
            size = min(rng.choice([2, 4, 8, 64, 512, 4096]), len(content))
            offset = rng.randrange(len(content) - size + 1)
            offset = rng.choice([offset, offset // 4096 * 4096, offset // 4096 * 4096 + rng.randrange(64)])
            data = rng.choice([bytes(size), b"\xff" * size, rng.randbytes(size)])
            lines.append(f"{name}\t{min(offset, len(content) - size)}\t{data.hex()}")
    return list(dict.fromkeys(lines))


def sizes(atlas: Path) -> list[str]:
    """Empty, cut off here and there, and too long."""
    lines = []
    for name, content in files(atlas):
        n = len(content)
        kept = {0, 1, 7, 64, 4095, 4096, 8192, 12_288, n // 2, n - 1, n + 1, n + 5000}
        lines += [f"{name}\ttruncate\t{size}" for size in sorted(kept) if size >= 0 and size != n]
    return lines


@pytest.fixture(scope="module")
def answers(atlas: Path) -> dict[str, tuple[str, str]]:
    """What became of every kind of damage."""
    return asked(atlas, flips(atlas) + garbage(atlas) + sizes(atlas))


def test_damage_is_an_error_or_does_not_matter(answers: dict[str, tuple[str, str]]) -> None:
    for line, (answer, verified) in answers.items():
        assert answer in {"ok", "died in LMDB"} | TYPED, line[:200]
        assert verified in {"ok"} | TYPED, line[:200]
        if answer != "ok":
            assert verified in TYPED, line[:200]
    n_typed = sum(answer in TYPED for answer, _ in answers.values())
    n_died = sum(answer == "died in LMDB" for answer, _ in answers.values())
    assert n_typed > len(answers) / 4
    assert n_died <= len(answers) / 200


def test_verify_notices_every_flip_of_a_shard(atlas: Path, answers: dict[str, tuple[str, str]]) -> None:
    shards = [line for line in flips(atlas) if line.startswith("shards")]
    assert {answers[line][1] for line in shards} == {"AtlasCorrupt"}


def test_an_error_names_what_is_damaged(atlas: Path, tmp_path: Path) -> None:
    copy = tmp_path / "atlas"
    shutil.copytree(atlas, copy)
    (postings,) = copy.glob("shards/first*/postings.bin")
    raw = bytearray(postings.read_bytes())
    raw[1500] ^= 1
    postings.write_bytes(raw)
    with Atlas.open(copy) as opened:
        with pytest.raises(
            AtlasCorrupt, match=r"postings\.bin: study 'first study', block 0, gene G\d+: .*checksum"
        ):
            opened.search([f"G{i}" for i in range(50)])
        assert opened.search(["G45"]).n_cells == 133  # what is not damaged is still found


def swapped(path: Path, name: str) -> Path:
    """A copy in which the two studies' files of that name have changed places."""
    copy = path.with_name(f"swapped {name}")
    shutil.copytree(path, copy)
    a, b = copy / "shards/A@1" / name, copy / "shards/B@2" / name
    first = a.read_bytes()
    a.write_bytes(b.read_bytes())
    b.write_bytes(first)
    return copy


def test_files_of_another_study_are_noticed(tmp_path: Path) -> None:
    # of one shape, so that sizes and offsets agree
    path = build(tmp_path, [study(name, 20, 5, density=1.0, tissue=["lung"] * 20) for name in "AB"])
    wanted = json.dumps(everything(path))
    assert ask(swapped(path, "postings.bin"), wanted) == "AtlasCorrupt\tAtlasCorrupt"
    # no search reads these
    assert ask(swapped(path, "genes.bin"), wanted) == "ok\tAtlasCorrupt"
    assert ask(swapped(path, "manifest.json"), wanted) == "ok\tAtlasCorrupt"


@pytest.mark.parametrize("name", ["postings.bin", "genes.bin", "manifest.json", "A@1", "meta.lmdb"])
def test_missing_files_are_noticed(tmp_path: Path, name: str) -> None:
    path = build(tmp_path, [study(name, 20, 5, tissue=["lung"] * 20) for name in "AB"])
    wanted = json.dumps(everything(path))
    gone = next(path.rglob(name))
    shutil.rmtree(gone) if gone.is_dir() else gone.unlink()
    error = "AtlasNotFound" if name == "meta.lmdb" else "AtlasCorrupt"
    assert ask(path, wanted) == f"{'ok' if name in ('genes.bin', 'manifest.json') else error}\t{error}"


def test_an_older_catalog_is_noticed(tmp_path: Path) -> None:
    path = build(tmp_path, [study("A", tissue=["lung"] * 40)])
    wanted = json.dumps(everything(path))
    older = (path / "meta.lmdb").read_bytes()
    build(tmp_path, [study("A", tissue=["lung"] * 40), study("B")])
    (path / "meta.lmdb").write_bytes(older)
    assert ask(path, wanted) == "AtlasCorrupt\tAtlasCorrupt"
    (path / "revision").unlink()  # without it, an older catalog is an atlas like any other
    assert ask(path, wanted) == "ok\tok"
