"""What gRPC itself can do here: a bare grpc.aio server that answers every request with the same bytes.

    python benchmarks/echo.py 1500 60000

Server and clients are two processes, as in the load test of the real server, so the two can be compared.
"""

import argparse
import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection

import grpc

from load import drive

ECHO = "/insignia.bench.Echo/Echo"
MAX_MESSAGE = (("grpc.max_receive_message_length", 64 << 20), ("grpc.max_send_message_length", 64 << 20))


def echo_throughput(
    request_bytes: int, response_bytes: int, clients: int = 32, seconds: float = 10
) -> dict[str, float]:
    """Calls a second of an echo with messages of these sizes: n, errors, requests_per_s, p50_ms, p99_ms."""
    with echo_server(response_bytes) as target:
        return drive(target, ECHO, [bytes(request_bytes)], clients, seconds)


@contextmanager
def echo_server(response_bytes: int) -> Iterator[str]:
    """Address of an echo server in a process of its own, as long as the block lasts."""
    context = get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(response_bytes, there), daemon=True)
    process.start()
    try:
        yield f"127.0.0.1:{here.recv()}"
    finally:
        here.send("stop")
        process.join(10)


def _serve(response_bytes: int, pipe: Connection) -> None:
    asyncio.run(_answer(response_bytes, pipe))


async def _answer(response_bytes: int, pipe: Connection) -> None:
    response = bytes(response_bytes)

    async def echo(request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        return response

    server = grpc.aio.server(options=MAX_MESSAGE)
    service, _, method = ECHO[1:].partition("/")
    handlers = {method: grpc.unary_unary_rpc_method_handler(echo)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    pipe.send(port)
    await asyncio.to_thread(pipe.recv)
    await server.stop(0)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("request_bytes", type=int)
    parser.add_argument("response_bytes", type=int)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=10)
    print(echo_throughput(**vars(parser.parse_args())))
