"""The kernels on the processor: the very source of the GPU's, compiled by g++ behind `host_cuda.h`."""

import ctypes
import hashlib
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from insignia_index.gpu.device import DeviceMemoryFull
from insignia_index.gpu.source import KERNELS, kernel_source

HEADER = Path(__file__).with_name("host_cuda.h")
# -ffp-contract: sums and products stay apart; -fno-strict-aliasing: shared memory serves two types in turn
OPTIONS = (
    "-std=c++17", "-O1", "-g", "-fPIC", "-shared", "-ffp-contract=off", "-fno-strict-aliasing",
    "-U_FORTIFY_SOURCE", "-Wall", "-Wno-unknown-pragmas", "-Wno-unused-function", "-Wno-class-memaccess",
)  # fmt: skip
_GUARD = 256


def library_source() -> str:
    """Header, kernels, and an entry point for each of them."""
    entries = [
        f'extern "C" int run_{name}(u64 a, i64 n, u32 x, u32 y, u32 threads, u32 seed) '
        f"{{ return host::run({name}, a, n, x, y, threads, seed); }}"
        for name in KERNELS
    ]
    return "\n".join([HEADER.read_text(), kernel_source(), *entries])


def compile_library(folder: Path) -> Path:
    """Compile into the folder, unless it has been done; raises `subprocess.CalledProcessError`."""
    source = library_source()
    path = folder / f"kernels-{hashlib.sha256(source.encode()).hexdigest()[:16]}.so"
    if not path.exists():
        part = path.with_suffix(".part")
        subprocess.run(["g++", *OPTIONS, "-x", "c++", "-", "-o", part], input=source, text=True, check=True)
        part.rename(path)
    return path


class EmulatedMemory:
    """Memory with a guard before and behind it, full of bytes that nobody wrote."""

    def __init__(self, device: "EmulatedDevice", n_bytes: int) -> None:
        self._device, self.n_bytes = device, n_bytes
        self._bytes = np.full(n_bytes + 3 * _GUARD, 0xA5, np.uint8)
        begin = -(-(self._bytes.ctypes.data + _GUARD) // _GUARD) * _GUARD
        self.address = begin
        offset = begin - self._bytes.ctypes.data
        self._guards = self._bytes[:offset], self._bytes[offset + n_bytes :]
        device.used += n_bytes
        device.memories[id(self)] = self._guards

    def __del__(self) -> None:
        self._device.used -= self.n_bytes
        self._device.memories.pop(id(self), None)


class EmulatedDevice:
    """`insignia_index.gpu.device.Device` on the processor, with ``n_bytes`` of memory."""

    n_threads = 64
    n_blocks = 3

    def __init__(self, library: Path, n_bytes: int = 1 << 30, seed: int = 0) -> None:
        self._library = ctypes.CDLL(str(library))
        self.name = "emulated"
        self.n_bytes, self.used, self.seed = n_bytes, 0, seed
        self.memories: dict[int, Any] = {}
        self.launched: list[tuple[str, tuple[int, ...]]] = []

    def free_bytes(self) -> int:
        return self.n_bytes - self.used

    def allocate(self, n_bytes: int) -> EmulatedMemory:
        if n_bytes > self.free_bytes():
            raise DeviceMemoryFull(f"{n_bytes:,} bytes")
        return EmulatedMemory(self, n_bytes)

    def upload(self, address: int, array: npt.NDArray[Any]) -> None:
        assert array.flags.c_contiguous
        ctypes.memmove(address, array.ctypes.data, array.nbytes)

    def download(self, address: int, array: npt.NDArray[Any]) -> None:
        assert array.flags.c_contiguous
        ctypes.memmove(array.ctypes.data, address, array.nbytes)

    def copy(self, target: int, source: int, n_bytes: int) -> None:
        ctypes.memmove(target, source, n_bytes)

    def clear(self, address: int, n_bytes: int) -> None:
        ctypes.memset(address, 0, n_bytes)

    def launch(self, kernel: str, grid: Sequence[int], address: int, number: int = 0) -> None:
        assert len(grid) == 2
        self.launched.append((kernel, tuple(grid)))
        self.seed += 1
        run = getattr(self._library, f"run_{kernel}")
        run.argtypes = [ctypes.c_uint64, ctypes.c_int64, *[ctypes.c_uint32] * 4]
        line = run(address, number, grid[0], grid[1], self.n_threads, self.seed & 0xFFFFFFFF)
        assert line == 0, f"{kernel}: threads of a block wait at different barriers (line {line})"
        for before, behind in self.memories.copy().values():
            assert (before == 0xA5).all(), f"{kernel} wrote before its memory"
            assert (behind == 0xA5).all(), f"{kernel} wrote behind its memory"

    def close(self) -> None:
        pass
