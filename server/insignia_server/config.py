"""The server's settings, checked when made."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field

from insignia_model.errors import InvalidArgument

#: Smallest value that makes sense, of every number below.
LOWEST = {
    "threads": 1,
    "max_concurrent": 1,
    "max_queued": 0,
    "max_streams": 1,
    "max_k": 1,
    "max_genes": 1,
    "max_groups": 1,
    "max_contributions": 1,
    "max_message_bytes": 1 << 16,
    "cache_bytes": 0,
    "device_memory": 0,
    "refresh_s": 0.01,
    "grace_s": 0.0,
}


def _cores() -> int:
    """Cores that this process may use, which a container makes fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """Where to listen, how much to do at once, what to refuse.

    ``max_concurrent`` searches run at once (0: as many as ``threads``) and ``max_queued`` more wait;
    ``max_streams`` streams of scores are open at once. ``max_k`` also bounds the cells of one GetCells,
    ``max_groups`` the rows of a result's groups and of its samples, ``max_contributions`` the rows of an
    explanation: genes times cells, and genes times groups. ``cache_bytes``: memory for the postings
    of genes that were asked for. ``device``: cpu, cuda, cuda:N, or auto (a GPU where there is one);
    ``device_memory``: bytes of a GPU's memory for postings (0: what is free, less room to work in).
    ``refresh_s``: how often a newer revision is looked for. ``grace_s``: how long running requests may still
    run when the server stops.
    """

    listen: str = "127.0.0.1:50051"
    threads: int = field(default_factory=_cores)
    max_concurrent: int = 0
    max_queued: int = 128
    max_streams: int = 16
    max_k: int = 100_000
    max_genes: int = 20_000
    max_groups: int = 1_000_000
    max_contributions: int = 1_000_000
    max_message_bytes: int = 64 << 20
    cache_bytes: int = 1 << 30
    device: str = "cpu"
    device_memory: int = 0
    refresh_s: float = 1.0
    grace_s: float = 10.0
    reflection: bool = True
    access_log: bool = False

    def __post_init__(self) -> None:
        if self.max_concurrent == 0:
            object.__setattr__(self, "max_concurrent", self.threads)
        for name, lowest in LOWEST.items():
            value = getattr(self, name)
            if not value >= lowest:  # also refuses NaN
                raise InvalidArgument(name, f"{value} is below {lowest}")
        if not re.fullmatch(r"auto|cpu|cuda(:\d{1,3})?", self.device):
            raise InvalidArgument("device", f"{self.device!r} is not auto, cpu, cuda or cuda:N")
        host, colon, port = self.listen.rpartition(":")
        if not (host and colon and port.isascii() and port.isdigit() and int(port) < 1 << 16):
            raise InvalidArgument("listen", f"{self.listen!r} is not HOST:PORT, such as 127.0.0.1:50051")

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach the address."""
        return self.listen.rpartition(":")[0] in ("localhost", "127.0.0.1", "[::1]")
