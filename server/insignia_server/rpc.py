"""From methods that run in a worker thread to handlers of grpc.aio.

Messages cross the event loop as bytes: a worker parses, works and serialises. The loop admits, waits, notices
who went away, and aborts.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import grpc
import grpc.aio
from google.protobuf.message import DecodeError, Message

from insignia_index import CancelToken
from insignia_model.errors import InvalidArgument, LimitExceeded, Overloaded
from insignia_server.admission import Lane
from insignia_server.config import ServerConfig
from insignia_server.status import abort

log = logging.getLogger("insignia_server.access")

Context: TypeAlias = grpc.aio.ServicerContext[bytes, bytes]

# gRPC itself ends an RPC at its deadline; the token's own deadline is the net below
DEADLINE_SLACK_S = 0.1


@dataclass(frozen=True, slots=True)
class Call:
    """What a method is given besides its request."""

    cancel: CancelToken
    threads: int = 1


@dataclass(frozen=True, slots=True)
class Method:
    """One RPC: its name, the type of its request, the lane that it works in, and the work."""

    name: str
    request_type: type[Message]
    work: Callable[[Any, Call], Any]
    lane: Lane


class Transport:
    """Makes handlers of methods."""

    def __init__(self, config: ServerConfig) -> None:
        self._max_message_bytes = config.max_message_bytes
        self._max_streams = config.max_streams
        self._access_level = logging.INFO if config.access_log else logging.DEBUG
        self._n_streams = 0
        self._n_open = 0
        self._idle = asyncio.Event()
        self._idle.set()

    async def idle(self) -> None:
        """Return once no RPC of these handlers is open; its answer has then been sent."""
        await self._idle.wait()

    def unary(self, method: Method) -> grpc.RpcMethodHandler[bytes, bytes]:
        """Handler of a method that returns one message."""

        async def handle(request: bytes, context: Context) -> bytes:
            token = self._opened(method, context)

            def work(threads: int) -> bytes:
                token.check()
                answer = method.work(_parse(method.request_type, request), Call(token, threads))
                return self._serialise(answer)

            try:
                return await method.lane.run(work, token)
            except Exception as error:
                await abort(context, error)

        return grpc.unary_unary_rpc_method_handler(handle)

    def stream(self, method: Method) -> grpc.RpcMethodHandler[bytes, bytes]:
        """Handler of a method that returns an iterator; its next message is made when the last is sent."""

        async def handle(request: bytes, context: Context) -> None:
            token = self._opened(method, context)
            pulled = _Pulled(
                lambda: method.work(_parse(method.request_type, request), Call(token)), self._serialise
            )
            self._n_streams += 1
            try:
                if self._n_streams > self._max_streams:
                    raise Overloaded(self._max_streams)
                message = await method.lane.run(pulled.next, token)
                while message is not None:
                    await context.write(message)
                    # a stream that was let in is not refused half-way
                    message = await method.lane.run(pulled.next, token, admitted=True)
            except Exception as error:
                await abort(context, error)
            finally:
                self._n_streams -= 1
                token.cancel()
                method.lane.afterwards(pulled.close)

        return grpc.unary_stream_rpc_method_handler(handle)

    def _opened(self, method: Method, context: Context) -> CancelToken:
        started = time.perf_counter()
        self._n_open += 1
        self._idle.clear()

        def closed(_: object) -> None:
            self._n_open -= 1
            if not self._n_open:
                self._idle.set()
            if log.isEnabledFor(self._access_level):
                self._log(method, context, time.perf_counter() - started)

        context.add_done_callback(closed)  # type: ignore[arg-type]  # the stubs want a class of theirs
        remaining = context.time_remaining()
        return CancelToken(None if remaining is None else time.monotonic() + remaining + DEADLINE_SLACK_S)

    def _serialise(self, message: Message) -> bytes:
        answer = message.SerializeToString()
        if len(answer) > self._max_message_bytes:
            advice = "ask for fewer cells, or group by fields with fewer values"
            raise LimitExceeded("bytes of the answer", len(answer), self._max_message_bytes, advice)
        return answer

    def _log(self, method: Method, context: Context, took_s: float) -> None:
        code = context.code()
        outcome = code.name if code else "CANCELLED" if context.cancelled() else "OK"
        log.log(self._access_level, "%s %s %s %.1f ms", context.peer(), method.name, outcome, took_s * 1000)


class _Pulled:
    """Messages of an iterator, one per call of `next`, from whichever thread."""

    def __init__(self, start: Callable[[], Iterator[Message]], serialise: Callable[[Message], bytes]) -> None:
        self._start = start
        self._serialise = serialise
        self._messages: Iterator[Message] | None = None
        self._lock = threading.Lock()  # a caller that went away closes while the last pull still runs

    def next(self, _: int) -> bytes | None:
        """Next message as bytes; None at the end."""
        with self._lock:
            if self._messages is None:
                self._messages = self._start()
            message = next(self._messages, None)
            return None if message is None else self._serialise(message)

    def close(self) -> None:
        """Give back what the iterator holds."""
        with self._lock:
            if self._messages is not None:
                self._messages.close()  # type: ignore[attr-defined]  # a generator


def _parse(request_type: type[Message], request: bytes) -> Message:
    try:
        return request_type.FromString(request)
    except DecodeError as error:
        raise InvalidArgument("request", f"the bytes are no {request_type.DESCRIPTOR.full_name}") from error
