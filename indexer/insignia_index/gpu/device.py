"""What the GPU engine asks of a device, and which device a user means."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Protocol

import numpy.typing as npt

from insignia_model.errors import InvalidArgument


class DeviceMemoryFull(Exception):  # nobody outside sees it: the processor answers instead
    """An allocation that did not fit."""


class Memory(Protocol):
    """A piece of device memory, given back when nobody refers to it any more."""

    address: int
    n_bytes: int


class Device(Protocol):
    """A device, used by one thread. Copies and kernels take place in the order in which they were asked for.

    ``n_threads``: of a block of threads; ``n_blocks``: of these that keep the device busy.
    """

    name: str
    n_threads: int
    n_blocks: int

    def free_bytes(self) -> int:
        """Memory that could be allocated."""
        ...

    def allocate(self, n_bytes: int) -> Memory:
        """Memory whose contents are unspecified, aligned to 256 bytes; raises `DeviceMemoryFull`."""
        ...

    def upload(self, address: int, array: npt.NDArray[Any]) -> None:
        """Copy a contiguous array to the device; the array may change afterwards."""
        ...

    def download(self, address: int, array: npt.NDArray[Any]) -> None:
        """Fill a contiguous array from the device; waits for everything before."""
        ...

    def copy(self, target: int, source: int, n_bytes: int) -> None:
        """Copy within the device."""
        ...

    def clear(self, address: int, n_bytes: int) -> None:
        """Write zeros."""
        ...

    def launch(self, kernel: str, grid: Sequence[int], address: int, number: int = 0) -> None:
        """Start a kernel on a grid of blocks (x, y) of ``n_threads``."""
        ...

    def close(self) -> None:
        """Give back what the device keeps for itself."""
        ...


def parse_device(device: str) -> tuple[str, int]:
    """Kind (``cpu``, ``auto``, ``cuda``) and number of the device; raises `InvalidArgument`."""
    match = re.fullmatch(r"(cpu|auto)|cuda(?::(\d{1,3}))?", device)
    if match is None:
        raise InvalidArgument("device", f"{device!r} is not auto, cpu, cuda or cuda:N")
    return match[1] or "cuda", int(match[2] or 0)
