"""The engine of the device that a user chose."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from insignia_index.gpu.engine import DeviceEngine


def open_engine(device: str, memory_bytes: int | None) -> DeviceEngine | None:
    """Engine of ``device`` (cpu, cuda, cuda:N or auto), None for the processor; raises `DeviceNotFound`.

    ``memory_bytes``: of the device's memory for postings (None: what is free, less room to work in).
    """
    if device == "cpu":
        return None
    # here: who asks for no device does not load what drives one
    from insignia_index.gpu.cuda import open_device
    from insignia_index.gpu.device import parse_device
    from insignia_index.gpu.engine import DeviceEngine

    make = open_device(device)
    return None if make is None else DeviceEngine(make, memory_bytes, parse_device(device)[1])
