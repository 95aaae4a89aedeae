"""From methods that run in a worker thread to handlers of grpc.aio.

Messages cross the event loop as bytes: a worker parses, works and serialises. The loop admits, waits, notices
who went away, and aborts.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import grpc
import grpc.aio
from google.protobuf.message import DecodeError, Message

from insignia_index import CancelToken
from insignia_model.errors import InvalidArgument, LimitExceeded, Overloaded, SearchCancelled
from insignia_server.admission import Lane
from insignia_server.config import ServerConfig
from insignia_server.status import abort

log = logging.getLogger("insignia_server.access")

Context: TypeAlias = grpc.aio.ServicerContext[bytes, bytes]

# gRPC itself ends an RPC at its deadline; the token's own deadline is the net below
DEADLINE_SLACK_S = 0.1

#: Screens at once: each has memory for a batch of scores, and one uses all threads.
MAX_SCREENS = 1


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
        self._n_screens = 0

    def unary(self, method: Method) -> grpc.RpcMethodHandler[bytes, bytes]:
        """Handler of a method that returns one message."""

        async def handle(request: bytes, context: Context) -> bytes:
            token = self._token(context)

            def work(threads: int) -> bytes:
                token.check()
                answer = method.work(_parse(method.request_type, request), Call(token, threads))
                return self._serialise(answer)

            with self._logged(method, context):
                try:
                    return await method.lane.run(work, token)
                except Exception as error:
                    await abort(context, error)

        return grpc.unary_unary_rpc_method_handler(handle)

    def stream(self, method: Method) -> grpc.RpcMethodHandler[bytes, bytes]:
        """Handler of a method that returns an iterator; its next message is made when the last is sent."""

        async def handle(request: bytes, context: Context) -> None:
            token = self._token(context)
            call = Call(token)
            pulled = _Pulled(lambda: method.work(_parse(method.request_type, request), call), self._serialise)
            with self._logged(method, context):
                self._n_streams += 1
                try:
                    if self._n_streams > self._max_streams:
                        raise Overloaded(self._max_streams, "streams of scores are open")
                    await self._send(method.lane, pulled, token, context)
                except Exception as error:
                    await abort(context, error)
                finally:
                    self._n_streams -= 1
                    token.cancel()
                    method.lane.afterwards(pulled.close)

        return grpc.unary_stream_rpc_method_handler(handle)

    def exchange(self, method: Method) -> grpc.RpcMethodHandler[bytes, bytes]:
        """Handler of a method that takes an iterator of requests and returns one of messages."""

        async def handle(requests: AsyncIterator[bytes], context: Context) -> None:
            token = self._token(context)
            incoming = _Incoming(requests, method.request_type)
            pulled = _Pulled(lambda: method.work(iter(incoming), Call(token)), self._serialise)
            with self._logged(method, context):
                self._n_screens += 1
                try:
                    if self._n_screens > MAX_SCREENS:
                        raise Overloaded(MAX_SCREENS, "screen runs")
                    await self._send(method.lane, pulled, token, context)
                except Exception as error:
                    await abort(context, error)
                finally:
                    self._n_screens -= 1
                    token.cancel()
                    incoming.close()
                    method.lane.afterwards(pulled.close)

        return grpc.stream_stream_rpc_method_handler(handle)

    async def _send(self, lane: Lane, pulled: _Pulled, token: CancelToken, context: Context) -> None:
        message = await lane.run(pulled.next, token)
        while message is not None:
            await context.write(message)
            # a stream that was let in is not refused half-way
            message = await lane.run(pulled.next, token, admitted=True)

    def _token(self, context: Context) -> CancelToken:
        remaining = context.time_remaining()
        return CancelToken(None if remaining is None else time.monotonic() + remaining + DEADLINE_SLACK_S)

    @contextmanager
    def _logged(self, method: Method, context: Context) -> Iterator[None]:
        if not log.isEnabledFor(self._access_level):
            yield
            return
        started, peer, outcome = time.perf_counter(), context.peer(), "CANCELLED"
        try:
            yield
            outcome = "OK"
        except grpc.aio.AbortError:
            outcome = context.code().name
            raise
        finally:
            took_ms = (time.perf_counter() - started) * 1000
            log.log(self._access_level, "%s %s %s %.1f ms", peer, method.name, outcome, took_ms)

    def _serialise(self, message: Message) -> bytes:
        answer = message.SerializeToString()
        if len(answer) > self._max_message_bytes:
            advice = "ask for fewer cells, or group by fields with fewer values"
            raise LimitExceeded("bytes of the answer", len(answer), self._max_message_bytes, advice)
        return answer


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


class _Incoming:
    """Requests of a stream, for a worker that asks for them one by one: none is read before it is wanted."""

    def __init__(self, requests: AsyncIterator[bytes], request_type: type[Message]) -> None:
        self._requests = requests
        self._request_type = request_type
        self._loop = asyncio.get_running_loop()
        self._asked: Future[bytes | None] | None = None
        self._closed = False

    def __iter__(self) -> Iterator[Message]:
        while True:
            self._asked = asyncio.run_coroutine_threadsafe(self._next(), self._loop)
            try:
                request = self._asked.result()
            except CancelledError as error:
                raise SearchCancelled() from error
            if request is None:
                return
            yield _parse(self._request_type, request)

    async def _next(self) -> bytes | None:
        if self._closed:  # between two requests: what is asked now would never be answered
            raise SearchCancelled
        return await anext(self._requests, None)

    def close(self) -> None:
        """Let a worker that waits for a request go on: there will be none."""
        self._closed = True
        if self._asked is not None:
            self._asked.cancel()


def _parse(request_type: type[Message], request: bytes) -> Message:
    try:
        return request_type.FromString(request)
    except DecodeError as error:
        raise InvalidArgument("request", f"the bytes are no {request_type.DESCRIPTOR.full_name}") from error
