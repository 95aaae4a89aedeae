"""A CUDA device by way of CuPy: memory, copies, launches. The one module that imports CuPy."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from insignia_index.gpu.device import Device, DeviceMemoryFull, parse_device
from insignia_index.gpu.source import KERNELS, OPTIONS, kernel_source
from insignia_model.errors import DeviceNotFound

log = logging.getLogger(__name__)

_TO_DEVICE, _TO_HOST, _WITHIN = 1, 2, 3
_BLOCKS_PER_PROCESSOR = 8


class CudaMemory:
    """CuPy's memory pool takes it back when it is no longer referred to."""

    def __init__(self, pointer: Any, n_bytes: int) -> None:
        self._pointer = pointer
        self.address = int(pointer.ptr)
        self.n_bytes = n_bytes


class CudaDevice:
    """One GPU, with a stream of its own. Made by, and used by, one thread."""

    n_threads = 256

    def __init__(self, number: int) -> None:
        import cupy

        self._cupy, self._number = cupy, number
        self._device = cupy.cuda.Device(number)
        self._device.use()  # of this thread
        properties = cupy.cuda.runtime.getDeviceProperties(number)
        self.name = f"cuda:{number} ({properties['name'].decode()})"
        self.n_blocks = _BLOCKS_PER_PROCESSOR * int(properties["multiProcessorCount"])
        self._stream = cupy.cuda.Stream(non_blocking=True)
        self._stream.use()  # also for what the memory pool orders by
        self._pool = cupy.cuda.MemoryPool()
        # not `cupy.RawModule`, which adds -ftz=true: small attributions times small weights would become 0
        compiled, _ = cupy.cuda.compiler.compile_using_nvrtc(kernel_source(), OPTIONS)
        module = cupy.cuda.function.Module()
        module.load(compiled)
        self._kernels = {name: module.get_function(name) for name in KERNELS}

    def free_bytes(self) -> int:
        """Memory that could be allocated."""
        free, _ = self._cupy.cuda.runtime.memGetInfo()
        return int(free) + int(self._pool.free_bytes())

    def allocate(self, n_bytes: int) -> CudaMemory:
        """Memory of the pool."""
        try:
            return CudaMemory(self._pool.malloc(max(1, n_bytes)), n_bytes)
        except self._cupy.cuda.memory.OutOfMemoryError:
            self._pool.free_all_blocks()  # what is kept may be in pieces of other sizes
        try:
            return CudaMemory(self._pool.malloc(max(1, n_bytes)), n_bytes)
        except self._cupy.cuda.memory.OutOfMemoryError as error:
            raise DeviceMemoryFull(f"{n_bytes:,} bytes") from error

    def upload(self, address: int, array: npt.NDArray[Any]) -> None:
        """Copy to the device. The runtime has copied pageable memory by the time that it returns."""
        if array.nbytes:
            self._copy(address, array.ctypes.data, array.nbytes, _TO_DEVICE)
            self._stream.synchronize()

    def download(self, address: int, array: npt.NDArray[Any]) -> None:
        """Copy from the device, and wait for it."""
        if array.nbytes:
            self._copy(array.ctypes.data, address, array.nbytes, _TO_HOST)
        self._stream.synchronize()

    def copy(self, target: int, source: int, n_bytes: int) -> None:
        """Copy within the device."""
        self._copy(target, source, n_bytes, _WITHIN)

    def _copy(self, target: int, source: int, n_bytes: int, kind: int) -> None:
        self._cupy.cuda.runtime.memcpyAsync(target, source, n_bytes, kind, self._stream.ptr)

    def clear(self, address: int, n_bytes: int) -> None:
        """Write zeros."""
        if n_bytes:
            self._cupy.cuda.runtime.memsetAsync(address, 0, n_bytes, self._stream.ptr)

    def launch(self, kernel: str, grid: Sequence[int], address: int, number: int = 0) -> None:
        """Start a kernel."""
        if min(grid) > 0:
            arguments = (np.uint64(address), np.int64(number))
            self._kernels[kernel](tuple(grid), (self.n_threads,), arguments)

    def close(self) -> None:
        """Give the pool's memory back."""
        self._stream.synchronize()
        self._pool.free_all_blocks()


def free_memory(number: int) -> int:
    """Bytes of a device that nobody has taken, for users of it that are no `CudaDevice`."""
    import cupy

    with cupy.cuda.Device(number):
        return int(cupy.cuda.runtime.memGetInfo()[0])


def find_cuda(number: int) -> str | None:
    """Why there is no such device, or None if there is."""
    try:
        import cupy
    except ImportError as error:
        if error.name not in ("cupy", "cupy_backends"):
            return f"CuPy is installed, but cannot be loaded: {error}"
        return "CuPy is not installed: pip install 'insignia[gpu]' (CUDA 13), or cupy-cuda12x for CUDA 12"
    try:
        n_devices = int(cupy.cuda.runtime.getDeviceCount())
    except cupy.cuda.runtime.CUDARuntimeError as error:
        return f"the CUDA driver offers no device ({error})"
    if number >= n_devices:
        return f"there are {n_devices} CUDA devices, numbered from 0"
    try:
        cupy.cuda.nvrtc.getVersion()
    except (RuntimeError, ImportError, OSError) as error:  # a driver comes without it
        return f"NVRTC, which compiles the kernels, is missing: pip install 'insignia[gpu]' ({error})"
    return None


def open_device(device: str) -> Callable[[], Device] | None:
    """Maker of the device that ``device`` names, to be called by its thread; None for the processor.

    ``auto``: the first GPU if there is one, else the processor. Raises `DeviceNotFound` if a GPU was asked
    for and is not there.
    """
    kind, number = parse_device(device)
    if kind == "cpu":
        return None
    problem = find_cuda(number)
    if problem is None:
        return lambda: CudaDevice(number)
    if kind == "cuda":
        raise DeviceNotFound(device, problem)
    log.info("searching on the processor: %s", problem)
    return None
