"""The server's settings, checked when made."""

from __future__ import annotations

import os
import re
import socket
from dataclasses import dataclass, field, replace

from insignia_model.errors import InvalidArgument

#: Smallest value that makes sense, of every number below.
LOWEST = {
    "threads": 1,
    "processes": 1,
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

#: Largest value, where there is one: gRPC counts a message's bytes by 31 bits, threads are made ahead.
HIGHEST = {"threads": 1024, "processes": 256, "max_concurrent": 1024, "max_message_bytes": (1 << 31) - 1}


def _cores() -> int:
    """Cores that this process may use, which a container makes fewer than the machine has."""
    n = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(n, HIGHEST["threads"])


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """Where to listen, how much to do at once, what to refuse.

    ``max_concurrent`` searches run at once (0: as many as ``threads``) and ``max_queued`` more wait;
    ``max_streams`` streams of scores are open at once. ``max_k`` also bounds the cells of one GetCells,
    ``max_groups`` the rows of a result's groups and of its samples, ``max_contributions`` the rows of an
    explanation: genes times cells, and genes times groups. ``cache_bytes``: memory for the postings
    of genes that were asked for. ``device``: cpu, cuda, cuda:N, or auto (a GPU where there is one);
    ``device_memory``: bytes of a GPU's memory for postings (0: what is free, less room to work in).
    ``processes`` share the port and the numbers above: each has its part of ``max_concurrent``,
    ``max_queued``, ``max_streams`` and ``cache_bytes``, and all ``threads`` for a search that runs alone.
    ``shares_port``: with the other processes of one server.
    ``refresh_s``: how often a newer revision is looked for. ``grace_s``: how long running requests may still
    run when the server stops.
    """

    listen: str = "127.0.0.1:50051"
    threads: int = field(default_factory=_cores)
    processes: int = 1
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
    shares_port: bool = False

    def __post_init__(self) -> None:
        if self.max_concurrent == 0:
            object.__setattr__(self, "max_concurrent", self.threads)
        for name, lowest in LOWEST.items():
            value = getattr(self, name)
            if not value >= lowest:  # also refuses NaN
                raise InvalidArgument(name, f"{value} is below {lowest}")
            if value > HIGHEST.get(name, value):
                raise InvalidArgument(name, f"{value} is above {HIGHEST[name]}")
        if not re.fullmatch(r"auto|cpu|cuda(:\d{1,3})?", self.device):
            raise InvalidArgument("device", f"{self.device!r} is not auto, cpu, cuda or cuda:N")
        if self.processes > 1 and self.device != "cpu":
            raise InvalidArgument("processes", f"{self.processes} cannot share a GPU; one fills it")
        if self.processes > 1 and not hasattr(socket, "SO_REUSEPORT"):
            raise InvalidArgument("processes", f"{self.processes} cannot share a port on this system")
        host, colon, port = self.listen.rpartition(":")
        if not (
            host
            and not host.startswith(("unix:", "dns:", "ipv4:", "ipv6:"))
            and colon
            and port.isascii()
            and port.isdigit()
            and int(port) < 1 << 16
        ):
            raise InvalidArgument("listen", f"{self.listen!r} is not HOST:PORT, such as 127.0.0.1:50051")

    def of_one(self, address: str) -> ServerConfig:
        """Settings of each of the processes that share ``address``."""

        def part(n: int) -> int:
            return -(-n // self.processes)

        return replace(
            self,
            listen=address,
            shares_port=True,
            processes=1,
            max_concurrent=part(self.max_concurrent),
            max_queued=part(self.max_queued),
            max_streams=part(self.max_streams),
            cache_bytes=part(self.cache_bytes),
        )

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach the address."""
        return self.listen.rpartition(":")[0] in ("localhost", "127.0.0.1", "[::1]")
