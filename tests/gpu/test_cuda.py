"""`CudaDevice` over a stand-in that has the calls of CuPy that it uses, and the processor behind them."""

import ctypes
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from insignia_index import Atlas, SearchRequest
from insignia_index.gpu.cuda import CudaDevice
from insignia_index.gpu.device import DeviceMemoryFull
from insignia_index.gpu.source import OPTIONS, kernel_source

from ..index.made import build, study
from .emulated import EmulatedDevice, compile_library
from .equal import assert_same

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++ to stand in for the GPU")


class OutOfMemoryError(Exception):
    """As CuPy raises it."""


class FakeCupy:
    """The part of CuPy that `CudaDevice` calls; one device of ``n_bytes``."""

    def __init__(self, library: Path, n_bytes: int) -> None:
        self.emulated = EmulatedDevice(library, n_bytes)
        self.used: list[Any] = []
        self.compiled: list[tuple[str, tuple[str, ...]]] = []
        runtime = SimpleNamespace(
            CUDARuntimeError=type("CUDARuntimeError", (RuntimeError,), {}),
            getDeviceCount=lambda: 1,
            getDeviceProperties=lambda number: {"name": b"Fake GPU", "multiProcessorCount": 2},
            memGetInfo=lambda: (self.emulated.free_bytes(), n_bytes),
            memcpyAsync=self._copy,
            memsetAsync=self._set,
        )
        self.cuda = SimpleNamespace(
            Device=lambda number: SimpleNamespace(use=lambda: self.used.append(number)),
            Stream=self._stream,
            MemoryPool=self._pool,
            memory=SimpleNamespace(OutOfMemoryError=OutOfMemoryError),
            runtime=runtime,
            nvrtc=SimpleNamespace(getVersion=lambda: (13, 0)),
            compiler=SimpleNamespace(compile_using_nvrtc=self._compile),
            function=SimpleNamespace(Module=self._module),
        )

    def _stream(self, non_blocking: bool) -> Any:
        assert non_blocking
        return SimpleNamespace(ptr=77, use=lambda: self.used.append("stream"), synchronize=lambda: None)

    def _pool(self) -> Any:
        def malloc(n_bytes: int) -> Any:
            assert n_bytes > 0
            try:
                memory = self.emulated.allocate(n_bytes)
            except DeviceMemoryFull as error:
                raise OutOfMemoryError from error
            return SimpleNamespace(ptr=memory.address, memory=memory)

        return SimpleNamespace(malloc=malloc, free_bytes=lambda: 0, free_all_blocks=lambda: None)

    def _copy(self, target: int, source: int, n_bytes: int, kind: int, stream: int) -> None:
        assert kind in (1, 2, 3)
        assert stream == 77
        ctypes.memmove(target, source, n_bytes)

    def _set(self, address: int, value: int, n_bytes: int, stream: int) -> None:
        assert stream == 77
        ctypes.memset(address, value, n_bytes)

    def _compile(self, code: str, options: tuple[str, ...]) -> tuple[bytes, None]:
        self.compiled.append((code, options))
        return b"cubin", None

    def _module(self) -> Any:
        loaded: list[bytes] = []

        def get_function(name: str) -> Any:
            assert loaded == [b"cubin"]

            def launch(grid: tuple[int, ...], block: tuple[int, ...], args: tuple[Any, ...]) -> None:
                assert [type(argument) for argument in args] == [np.uint64, np.int64]
                (self.emulated.n_threads,) = block
                self.emulated.launch(name, grid, int(args[0]), int(args[1]))

            return launch

        return SimpleNamespace(load=loaded.append, get_function=get_function)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_library(tmp_path_factory.mktemp("kernels"))


@pytest.fixture
def cupy(library: Path, monkeypatch: pytest.MonkeyPatch) -> FakeCupy:
    fake = FakeCupy(library, 1 << 30)
    monkeypatch.setitem(sys.modules, "cupy", fake)
    return fake


def test_a_search_through_cupy(cupy: FakeCupy, tmp_path: Path) -> None:
    density = [0.01, 0.2, 0.5, 0.97, 1.0, 0.03]
    path = build(tmp_path, [study("a", 9_001, 6, density=density), study("b", 20, 6)])
    with Atlas.open(path, device="auto", device_memory=1 << 24) as atlas:
        info = atlas.info()
        assert (info.device, info.n_cells_on_device) == ("cuda:0 (Fake GPU)", 9_021)
        for hits in ("percentile:95", "top:40"):
            for where in (None, {"study": "b"}):
                assert_same(atlas, SearchRequest.of(["G0", "G1", "G2", "G3", "G4"], hits=hits, where=where))
    assert cupy.used == [0, "stream"]
    assert cupy.compiled == [(kernel_source(), OPTIONS)]
    assert {kernel.split("_")[0] for kernel, _ in cupy.emulated.launched} >= {"score", "statistics", "finish"}


def test_an_allocation_that_does_not_fit(cupy: FakeCupy) -> None:
    device = CudaDevice(0)
    assert device.free_bytes() == 1 << 30
    with pytest.raises(DeviceMemoryFull):
        device.allocate(1 << 31)
    assert device.allocate(0).n_bytes == 0
    device.close()


def test_an_empty_launch_is_none(cupy: FakeCupy) -> None:
    CudaDevice(0).launch("score_half", (0, 1), 0)
    assert cupy.emulated.launched == []
