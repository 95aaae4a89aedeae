"""Kernels against numpy."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit

from insignia_index.format.layout import BITMAP, FULL, LIST, container_bytes
from insignia_index.kernels import bitmaps, cache, check, memory, transpose
from insignia_index.kernels.directory import container_size
from insignia_index.kernels.expand import GENES

EVERY_HALF = np.arange(65_536, dtype=np.uint16)
FINITE_HALF = EVERY_HALF[np.isfinite(EVERY_HALF.view(np.float16))]


#: Bytes before a bitmap.
BEFORE = 12


def bitmap(rng: np.random.Generator, n_cells: int, density: float, dtype: type) -> np.ndarray:
    """A bitmap container as bytes: masks of 32 cells, then the values of the set bits."""
    bits = np.zeros(-(-n_cells // 32) * 32, bool)
    bits[:n_cells] = rng.random(n_cells) < density
    values = rng.normal(0, 100, bits.sum()).astype(dtype)
    # as in a file something lies before it, and other containers or the head follow
    raw = bytes(BEFORE) + np.packbits(bits, bitorder="little").tobytes() + values.tobytes() + bytes(64)
    return np.frombuffer(raw, np.uint8).copy()


ADDERS = [bitmaps.add_bitmaps, bitmaps.add_expanded]
ADDERS += [bitmaps.add_shuffled] if memory.HAS_SHUFFLE else []


@pytest.mark.parametrize("add", ADDERS)
@pytest.mark.parametrize("stored", [np.float16, np.float32])
@given(seed=st.integers(0, 2**32), n_cells=st.integers(1, 200), n=st.integers(1, 40))
@settings(max_examples=40)
def test_the_vector_steps_add_what_the_plain_loop_adds_bit_for_bit(
    add: Any, stored: type, seed: int, n_cells: int, n: int
) -> None:
    rng = np.random.default_rng(seed)
    is_half = stored is np.float16
    made = [bitmap(rng, n_cells, density, stored) for density in rng.random(n)]
    made += [bitmap(rng, n_cells, 0.0, stored)] * GENES  # what fills them up
    addresses = np.array([raw.ctypes.data + BEFORE for raw in made], np.int64)
    weights = rng.normal(0, 1, len(made)).astype(np.float32 if is_half else np.float64)
    plain = np.zeros(bitmaps.BUFFER_CELLS, weights.dtype)
    plain[: n_cells + 64] = rng.normal(0, 1, n_cells + 64)
    vector = plain.copy()
    bitmaps.add_one_by_one(plain, addresses, n, n_cells, weights, is_half)
    add(vector, addresses, n, n_cells, weights, is_half)
    # what lies behind is room to work in
    assert plain[: bitmaps.CELLS_END].tobytes() == vector[: bitmaps.CELLS_END].tobytes()


@njit
def _to_float(halves, out, by_arithmetic):
    for i in range(len(halves)):
        if by_arithmetic:
            out[i] = memory.half_by_arithmetic(halves[i])
        else:
            out[i] = memory.half_to_float(halves[i])


@njit
def _to_half(singles, out, by_arithmetic):
    for i in range(len(singles)):
        if by_arithmetic:
            out[i] = memory.float_to_half_by_arithmetic(singles[i])
        else:
            out[i] = memory.float_to_half(singles[i])


@pytest.mark.parametrize("by_arithmetic", [True, False])
def test_every_finite_half_becomes_the_float_that_numpy_makes(by_arithmetic: bool) -> None:
    found = np.empty(len(FINITE_HALF), np.float32)
    _to_float(FINITE_HALF, found, by_arithmetic)
    np.testing.assert_array_equal(
        found.view(np.uint32), FINITE_HALF.view(np.float16).astype(np.float32).view(np.uint32)
    )


def floats_below_the_limit() -> np.ndarray:
    """Random bit patterns, every half, and what lies at, and next to, the middle of two halves."""
    patterns = np.random.default_rng(1).integers(0, 2**32, 200_000, np.uint64).astype(np.uint32)
    halves = FINITE_HALF.view(np.float16).astype(np.float64)
    middles = ((halves[:-1] + halves[1:]) / 2).astype(np.float32)
    near = [np.nextafter(middles, np.float32(side)) for side in (np.inf, -np.inf)]
    every = np.concatenate([patterns.view(np.float32), halves.astype(np.float32), middles, *near])
    return every[np.isfinite(every) & (np.abs(every) < 65_520)]


@pytest.mark.parametrize("by_arithmetic", [True, False])
def test_floats_round_to_the_half_that_numpy_rounds_to(by_arithmetic: bool) -> None:
    singles = floats_below_the_limit()
    found = np.empty(len(singles), np.uint16)
    _to_half(singles, found, by_arithmetic)
    np.testing.assert_array_equal(found, singles.astype(np.float16).view(np.uint16))


@njit
def _count(word):
    return memory.popcount(word), memory.trailing_zeros(word)


@pytest.mark.parametrize("dtype", [np.uint16, np.uint32, np.uint64])
def test_set_bits_and_trailing_zeros_are_counted(dtype: type) -> None:
    n_bits = np.dtype(dtype).itemsize * 8
    words = [1, 2**n_bits - 1, 2 ** (n_bits - 1), *np.random.default_rng(2).integers(1, 2**15, 50).tolist()]
    for word in words:
        lowest = (word & -word).bit_length() - 1
        assert _count(dtype(word)) == (bin(word).count("1"), lowest)


@given(words=st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=40), data=st.data())
@settings(max_examples=200)
def test_the_checksum_changes_with_every_change_of_one_word(words: list[int], data: st.DataObject) -> None:
    array, seed = np.array(words, np.uint32), np.uint32(data.draw(st.integers(0, 2**32 - 1)))
    place = data.draw(st.integers(0, len(words) - 1))
    other = data.draw(st.integers(0, 2**32 - 1).filter(lambda word: word != words[place]))
    before = check.checksum(array, seed)
    assert before == (int(seed) + sum(w * (2 * i + 1) for i, w in enumerate(words))) % 2**32
    array[place] = other
    assert check.checksum(array, seed) != before


def test_the_seed_depends_on_the_gene_and_on_every_bit_of_the_entry() -> None:
    entry = 0x0123456789ABCDEF
    seeds = {int(check.entry_seed(gene, np.uint64(entry))) for gene in range(1000)}
    assert len(seeds) == 1000
    flipped = {int(check.entry_seed(7, np.uint64(entry ^ (1 << bit)))) for bit in range(64)}
    assert int(check.entry_seed(7, np.uint64(entry))) not in flipped


def test_containers_have_the_size_that_the_format_says() -> None:
    for kind in (LIST, BITMAP, FULL):
        for n_cells in (1, 15, 16, 31, 32, 33, 1000, 65_536):
            for count in {1, n_cells // 2 + 1, n_cells}:
                for value_bytes in (2, 4):
                    expected = container_bytes(kind, count, n_cells, value_bytes)
                    assert container_size(kind, count, n_cells, value_bytes) == expected


@given(seed=st.integers(0, 2**32))
@settings(max_examples=30)
def test_gene_statistics_add_up_over_chunks(seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.normal(0, 1, (12, 5)) * (rng.random((12, 5)) < 0.5)
    n_cells, total, maximum = np.zeros(5, np.int64), np.zeros(5), np.full(5, -np.inf, np.float32)
    negative = False
    for rows in (values[:5], values[5:]):
        stored = np.nonzero(rows)
        indptr = np.concatenate([[0], np.cumsum(np.bincount(stored[0], minlength=len(rows)))])
        negative |= transpose.gene_statistics(
            indptr, stored[1], rows[stored].astype(np.float32), np.arange(5), n_cells, total, maximum
        )
    np.testing.assert_array_equal(n_cells, (values != 0).sum(axis=0))
    np.testing.assert_allclose(total, values.sum(axis=0), rtol=1e-5, atol=1e-6)
    best = np.where(values != 0, values, -np.inf).max(axis=0).astype(np.float32)
    np.testing.assert_array_equal(maximum, best)
    assert negative == (values < 0).any()


def test_who_may_write_nowhere_still_has_a_place_for_compiled_kernels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_place(**options: Any) -> Any:
        if not cache.numba.config.CACHE_DIR:
            raise RuntimeError("cannot cache function: no locator available")
        return njit(**options)

    monkeypatch.setattr(cache.numba, "njit", no_place)
    monkeypatch.setattr(cache.numba.config, "CACHE_DIR", "")
    monkeypatch.setenv("NUMBA_CACHE_DIR", "")
    monkeypatch.setattr(cache.tempfile, "tempdir", str(tmp_path))
    cache.find_place()
    own = Path(cache.numba.config.CACHE_DIR)
    assert own.parent == tmp_path
    assert own.stat().st_mode & 0o777 == 0o700
    cache.numba.config.CACHE_DIR = ""
    cache.find_place()
    assert Path(cache.numba.config.CACHE_DIR) == own  # where the next process finds what this one compiled
    own.chmod(0o777)  # what somebody else could have put there must not be executed
    cache.numba.config.CACHE_DIR = ""
    cache.find_place()
    assert Path(cache.numba.config.CACHE_DIR) != own
    assert Path(cache.numba.config.CACHE_DIR).stat().st_mode & 0o777 == 0o700


def test_kernels_of_other_sources_are_forgotten(tmp_path: Path) -> None:
    package = tmp_path / "insignia_index" / "kernels"
    shutil.copytree(Path(cache.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    (package.parent / "__init__.py").touch()
    (package / "called.py").write_text("from numba import njit\n@njit\ndef called(): return 1\n")
    (package / "caller.py").write_text(
        "from numba import njit\nfrom insignia_index.kernels.called import called\n"
        "@njit(cache=True)\ndef caller(): return called()\n"
    )
    code = (
        "from insignia_index.kernels.caller import caller; value = caller();"
        "print(value, sum(caller.stats.cache_hits.values()))"
    )

    def found() -> str:
        environment = os.environ | {"PYTHONPATH": str(tmp_path)}
        command = [sys.executable, "-c", code]
        return subprocess.check_output(command, text=True, env=environment, timeout=120).strip()

    assert [found(), found()] == ["1 0", "1 1"]
    (package / "called.py").write_text("from numba import njit\n@njit\ndef called(): return 2\n")
    assert [found(), found()] == ["2 0", "2 1"]


def test_who_waits_for_the_compiler_at_a_terminal_is_told_once(tmp_path: Path) -> None:
    code = (
        "import numpy as np; from insignia_index.kernels.order import nth_smallest;"
        "print(nth_smallest(np.arange(9.0), 3), nth_smallest(np.arange(9, dtype=np.float32), 4))"
    )

    def told(is_terminal: bool) -> str:
        ours, theirs = os.openpty() if is_terminal else os.pipe()
        environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
        done = subprocess.run(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=theirs, env=environment, timeout=120
        )
        assert done.stdout.split() == [b"3.0", b"4.0"]
        os.write(theirs, b".")  # so that there is something to read
        found = b""
        with os.fdopen(ours, "rb", 0) as stream:
            while not found.endswith(b"."):
                found += stream.read(1000)
        os.close(theirs)
        return found.decode().replace("\r\n", "\n")

    assert told(is_terminal=True) == "compiling for this processor, once: half a minute or so\n."
    assert told(is_terminal=True) == "."  # kept
    shutil.rmtree(tmp_path)
    assert told(is_terminal=False) == "."
