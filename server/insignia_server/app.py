"""The running server: service, health, reflection, a look-out for newer revisions, a graceful stop."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import re
from collections.abc import Callable

import grpc
import grpc.aio
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha import reflection

from insignia_proto.v1 import insignia_pb2 as pb
from insignia_server import health
from insignia_server.admission import Lane
from insignia_server.config import ServerConfig
from insignia_server.engine import Engine
from insignia_server.errors import CannotListen
from insignia_server.health import Health
from insignia_server.rpc import MAX_SCREENS, Method, Transport
from insignia_server.service import AtlasService
from insignia_server.signals import stop_signals

log = logging.getLogger(__name__)

SERVICE = pb.DESCRIPTOR.services_by_name["AtlasService"]
SEARCHES = ("Search", "Scores", "Explain", "Similar")  # the rest is quick, and must not wait behind searches
BROWSERS = 2


class Server:
    """One engine behind one address, until `stop`."""

    def __init__(self, engine: Engine, config: ServerConfig) -> None:
        self.address = config.listen
        self._engine = engine
        self._config = config
        threads, queued = config.threads, config.max_queued
        self._searches = Lane(
            "search", max_concurrent=config.max_concurrent, max_queued=queued, threads=threads
        )
        self._browsing = Lane("browse", max_concurrent=BROWSERS, max_queued=queued)
        self._screens = Lane("screen", max_concurrent=MAX_SCREENS, max_queued=queued)
        self._transport = Transport(config)
        self._health = Health(SERVICE.full_name)
        self._refreshing: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Listen and serve; ``address`` then has the port that was taken."""
        self._server = grpc.aio.server(options=self._options())
        self._server.add_generic_rpc_handlers((self._handlers(), self._health.handlers()))
        if self._config.reflection:
            names = (SERVICE.full_name, health.SERVICE_NAME, reflection.SERVICE_NAME)
            reflection.enable_server_reflection(names, self._server)
        try:
            port = self._server.add_insecure_port(self._config.listen)
        except RuntimeError as error:
            raise CannotListen(self._config.listen) from error
        if not self._config.is_local:
            log.warning("%s is open to other machines, without encryption or log-in", self._config.listen)
        self.address = f"{self._config.listen.rpartition(':')[0]}:{port}"
        await self._server.start()
        self._refreshing = asyncio.create_task(self._refresh())

    async def stop(self, grace_s: float | None = None) -> None:
        """Take no more requests, let those that run end within the grace, cancel the rest."""
        if self._refreshing is not None:
            self._refreshing.cancel()
        self._health.stop()
        # once only: grpc.aio may crash when stopped a second time meanwhile
        await self._server.stop(self._config.grace_s if grace_s is None else grace_s)
        for lane in (self._searches, self._browsing, self._screens):
            await asyncio.to_thread(lane.close)

    def _options(self) -> list[tuple[str, int]]:
        n_bytes = self._config.max_message_bytes
        return [
            ("grpc.max_receive_message_length", n_bytes),
            ("grpc.max_send_message_length", n_bytes),
            # else a second server on the same port takes half of the requests
            ("grpc.so_reuseport", int(self._config.shares_port)),
            ("grpc.keepalive_time_ms", 60_000),  # notices clients whose machine went away
            ("grpc.keepalive_timeout_ms", 20_000),
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.min_ping_interval_without_data_ms", 10_000),  # as often as a client may ask
        ]

    def _handlers(self) -> grpc.GenericRpcHandler[bytes, bytes]:
        service = AtlasService(self._engine, self._config)
        handlers = {}
        for rpc in SERVICE.methods:
            work = getattr(service, re.sub(r"(?<!^)(?=[A-Z])", "_", rpc.name).lower())
            method = Method(rpc.name, GetMessageClass(rpc.input_type), work, self._lane(rpc))
            make = self._transport.stream if rpc.server_streaming else self._transport.unary
            handlers[rpc.name] = (self._transport.exchange if rpc.client_streaming else make)(method)
        return grpc.method_handlers_generic_handler(SERVICE.full_name, handlers)

    def _lane(self, rpc: MethodDescriptor) -> Lane:
        if rpc.client_streaming:
            return self._screens
        return self._searches if rpc.name in SEARCHES else self._browsing

    async def _refresh(self) -> None:
        told = ""
        while True:
            await asyncio.sleep(self._config.refresh_s)
            try:
                if await asyncio.to_thread(self._engine.refresh):
                    info = await asyncio.to_thread(self._engine.info)
                    log.info("revision %d: %d studies, %d cells", info.revision, info.n_studies, info.n_cells)
                told = ""
            except Exception as error:
                # the revision that is open still answers
                if told != repr(error):  # once, and not every second
                    told = repr(error)
                    log.exception("no newer revision could be taken up")


async def serve(engine: Engine, config: ServerConfig, ready: Callable[[str], None]) -> None:
    """Serve until SIGTERM, SIGINT or SIGHUP; ``ready`` is called with the address once requests are taken.

    A process that another one started with `multiprocessing` also stops when that one is gone.
    """
    stopping, loop = asyncio.Event(), asyncio.get_running_loop()
    for name in stop_signals():
        loop.add_signal_handler(name, stopping.set)
    if (parent := multiprocessing.parent_process()) is not None:
        loop.add_reader(parent.sentinel, stopping.set)
    server = Server(engine, config)
    await server.start()
    ready(server.address)
    await stopping.wait()
    log.info("stopping; running requests have %g s", config.grace_s)
    await server.stop()
