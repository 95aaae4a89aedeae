"""Blocks of every awkward size, in memory that ends where nobody may read: a kernel that does would crash."""

import ctypes
import mmap
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from insignia_index import Atlas, SearchRequest
from insignia_index.gpu.device import DeviceMemoryFull
from insignia_index.gpu.engine import DeviceEngine

from ..index.made import blocks_of, build, study
from .emulated import EmulatedDevice
from .equal import assert_same

SIZES = [1, 2, 31, 33, 64, 65, 127, 128, 129, 257, 4097, 8191, 8193, 8225, 16_385]
# full, two lists, and bitmaps: not a multiple of what is staged at once
DENSITY = [1.0, 0.002, 0.01, *[0.3, 0.5, 0.8, 0.2, 0.6, 0.4, 0.9, 0.5, 0.7]]
GENES = [f"G{i}" for i in range(len(DENSITY))]
ALIGNMENT = 64
LIBC = ctypes.CDLL(None, use_errno=True)


class Walled:
    """Memory that ends, to `ALIGNMENT`, at a page that is protected; full of ``fill``."""

    def __init__(self, device: "WalledDevice", n_bytes: int) -> None:
        self._device, self.n_bytes = device, n_bytes
        room = -(-n_bytes // ALIGNMENT) * ALIGNMENT
        pages = -(-room // mmap.PAGESIZE) * mmap.PAGESIZE
        self._map = mmap.mmap(-1, pages + mmap.PAGESIZE)
        self._first = ctypes.c_char.from_buffer(self._map)
        begin = ctypes.addressof(self._first)
        ctypes.memset(begin, device.fill, pages)
        self._wall = ctypes.c_void_p(begin + pages)
        assert LIBC.mprotect(self._wall, mmap.PAGESIZE, 0) == 0
        self.address = begin + pages - room
        device.used += n_bytes

    def __del__(self) -> None:
        self._device.used -= self.n_bytes
        LIBC.mprotect(self._wall, mmap.PAGESIZE, mmap.PROT_READ | mmap.PROT_WRITE)


class WalledDevice(EmulatedDevice):
    """The stand-in, whose memories end at walls."""

    def __init__(self, library: Path, n_threads: int, fill: int) -> None:
        super().__init__(library)
        self.n_threads, self.fill = n_threads, fill

    def allocate(self, n_bytes: int) -> Any:
        if n_bytes > self.free_bytes():
            raise DeviceMemoryFull(f"{n_bytes:,} bytes")
        return Walled(self, n_bytes)


@pytest.mark.parametrize("value_dtype", ["float16", "float32"])
@pytest.mark.parametrize(("n_threads", "fill"), [(16, 0x7F), (256, 0xFF)])
def test_blocks_of_every_size(
    tmp_path: Path,
    make_device: Any,
    monkeypatch: pytest.MonkeyPatch,
    value_dtype: str,
    n_threads: int,
    fill: int,
) -> None:
    device = make_device()
    if device.name != "emulated":
        pytest.skip("the walls are the stand-in's")
    sizes = SIZES[:11] if n_threads == 16 else SIZES[4:]
    made = []
    for n in sizes:
        one = study(f"s{n}", n, GENES, density=DENSITY, seed=n, signed=True)
        one.values[-1, 3::2] = 1.5  # the last cell has every second bitmap
        one.values[-1, 4::2] = 0
        made.append(one)
    made.append(study("few", 200, GENES[4:6], density=0.5))  # most genes have no posting here
    with blocks_of(65_536):
        path = build(tmp_path, made, value_dtype=value_dtype)
    library = Path(device._library._name)
    engine = DeviceEngine(lambda: WalledDevice(library, n_threads, fill), 1 << 28)
    monkeypatch.setattr("insignia_index.atlas.open_engine", lambda *_: engine)
    with Atlas.open(path, threads=1, device="cuda") as atlas:
        assert atlas.info().n_cells_on_device == atlas.info().n_cells
        for n_genes in (len(GENES), 12, 7, 5, 4):
            weights = dict(zip(GENES[-n_genes:], np.linspace(-1, 2, n_genes).tolist(), strict=True))
            assert_same(atlas, SearchRequest.of(weights, k=50))
