"""Several server processes behind one port.

Between the scoring of searches a Python process computes on one core, however many threads it has. The kernel
deals new connections out among the processes that listen on the port. All stop when one ends: whoever
supervises the server starts them again together.
"""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import connection, get_context
from multiprocessing.process import BaseProcess
from pathlib import Path

from insignia_index import Atlas
from insignia_server.config import ServerConfig
from insignia_server.errors import CannotListen, ProcessEnded
from insignia_server.logs import log_to_stderr
from insignia_server.one import serve_one, serving
from insignia_server.signals import stop_signals


def serve_together(path: Path, config: ServerConfig, log_level: str, ready: Callable[[str], None]) -> None:
    """Serve an atlas from ``config.processes`` processes until SIGTERM, SIGINT or SIGHUP.

    ``ready`` is told what and where once all take requests. Raises `CannotListen` if the port is taken,
    `ProcessEnded` if one of them ends by itself.
    """
    with Atlas.open(path, threads=config.threads) as atlas:  # what is wrong with it is told once
        atlas.warm()  # compiles kernels, which the others then find
        info = atlas.info()
    context = get_context("spawn")
    with _port(config.listen) as address:
        receiver, sender = context.Pipe(duplex=False)
        arguments = (path, config.of_one(address), log_level, sender)
        processes: list[BaseProcess] = [
            context.Process(target=_serve, args=arguments, name=f"insignia-{i}")
            for i in range(config.processes)
        ]
        with _stopped_by_signals(processes) as is_stopping:
            for process in processes:
                process.start()
            sender.close()
            n_ready = 0
            while n_ready < len(processes) and _first_ended(processes, or_until=receiver) is None:
                try:
                    n_ready += receiver.recv()
                except EOFError:  # all have ended
                    break
            if n_ready == len(processes):
                ready(serving(path, info, address, n_ready))
            ended = _first_ended(processes)
            by_itself = not is_stopping()
    if ended is not None and by_itself:
        raise ProcessEnded(ended.name, ended.exitcode)


def _first_ended(
    processes: list[BaseProcess], or_until: connection.Connection | None = None
) -> BaseProcess | None:
    """Wait for a process to end, or until something can be received; None then."""
    others = [] if or_until is None else [or_until]
    found = connection.wait([*others, *(process.sentinel for process in processes)])
    for process in processes:
        if process.sentinel in found:
            process.join()
            return process
    return None


def _serve(path: Path, config: ServerConfig, log_level: str, ready: connection.Connection) -> None:
    log_to_stderr(log_level)
    serve_one(path, config, lambda _: ready.send(1))


@contextmanager
def _stopped_by_signals(processes: list[BaseProcess]) -> Iterator[Callable[[], bool]]:
    """Yield what tells whether a signal came. On one, and at the end, all processes stop gracefully."""
    came: list[object] = []

    def stop(*signals: object) -> None:
        came.extend(signals[:1])
        for process in processes:
            if process.pid is not None and process.exitcode is None:
                process.terminate()

    before = {number: signal.signal(number, stop) for number in stop_signals()}
    try:
        yield lambda: bool(came)
    finally:
        stop()
        for process in processes:
            if process.pid is not None:
                process.join()
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _port(listen: str) -> Iterator[str]:
    """Yield HOST:PORT, with a port that processes of this user can share, and hold it; nobody else has it."""
    host, _, port = listen.rpartition(":")
    family = socket.AF_INET6 if host.startswith("[") else socket.AF_INET
    with (
        socket.socket(family, socket.SOCK_STREAM) as taken,
        socket.socket(family, socket.SOCK_STREAM) as held,
    ):
        place = (host.strip("[]"), int(port))
        try:
            # without sharing, to notice a server that is already there
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            taken.bind(place)
            place = taken.getsockname()[:2]
            taken.close()
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            held.bind(place)
        except OSError as error:
            raise CannotListen(listen) from error
        yield f"{host}:{place[1]}"
