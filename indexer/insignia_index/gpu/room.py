"""One piece of device memory for all that a batch needs."""

from __future__ import annotations

from collections.abc import Sequence

from insignia_index.gpu.device import Device, Memory

_ALIGN = 256


class Room:
    """Named arrays, one a query, side by side without gaps if their sizes allow it; then `allocate`."""

    def __init__(self) -> None:
        self._offsets: dict[str, list[int]] = {}
        self._sizes: dict[str, list[int]] = {}
        self._zero_bytes = self._n_bytes = 0
        self._memory: Memory | None = None

    def add(self, name: str, sizes: Sequence[int], *, zeros: bool = False) -> None:
        """Room of so many bytes for each query; that of ``zeros`` comes first."""
        offsets = []
        for size in sizes:
            offsets.append(self._n_bytes)
            self._n_bytes += -(-size // 8) * 8
        self._n_bytes = -(-self._n_bytes // _ALIGN) * _ALIGN
        if zeros:
            self._zero_bytes = self._n_bytes
        self._offsets[name], self._sizes[name] = offsets, list(sizes)

    @property
    def names(self) -> set[str]:
        """Names of the arrays."""
        return set(self._offsets)

    def allocate(self, device: Device) -> None:
        """Take the memory; raises `DeviceMemoryFull`."""
        self._memory = device.allocate(max(1, self._n_bytes))

    def clear(self, device: Device) -> None:
        """Write zeros where they are wanted."""
        device.clear(self._base, self._zero_bytes)

    def sizes(self, name: str) -> list[int]:
        """Bytes of each query's array."""
        return self._sizes[name]

    def start(self, name: str) -> int:
        """Address of the first query's array."""
        return self.address(name, 0)

    def address(self, name: str, query: int) -> int:
        """Address of a query's array."""
        return self._base + self._offsets[name][query]

    @property
    def _base(self) -> int:
        if self._memory is None:
            raise RuntimeError("the room has no memory yet")
        return self._memory.address
