"""Many clients at once against a server, from a process of their own.

Each client has a connection of its own and one call in flight; messages travel as bytes, so that what is
measured is the server and the wire, not what a client does with an answer.
"""

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import grpc
import numpy as np

from insignia_proto.v1 import insignia_pb2 as pb

SEARCH = "/insignia.v1.AtlasService/Search"
OPTIONS = (
    ("grpc.max_receive_message_length", 64 << 20),
    ("grpc.use_local_subchannel_pool", 1),  # else channels to one address share one connection
)
WARM_UP = 0.1  # share of the time given that runs unmeasured before it


def load_test(
    target: str, requests: Sequence[pb.SearchRequest], clients: int = 32, seconds: float = 30
) -> dict[str, float]:
    """Searches a second and their latencies, `requests` taken in turn."""
    return drive(target, SEARCH, [request.SerializeToString() for request in requests], clients, seconds)


def drive(
    target: str, method: str, payloads: Sequence[bytes], clients: int, seconds: float
) -> dict[str, float]:
    """Calls of a unary method a second, from a new process: n, errors, requests_per_s, p50_ms, p99_ms."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_drive, target, method, list(payloads), clients, seconds).result()


def _drive(target: str, method: str, payloads: list[bytes], clients: int, seconds: float) -> dict[str, float]:
    return asyncio.run(_clients(target, method, payloads, clients, seconds))


async def _clients(
    target: str, method: str, payloads: list[bytes], clients: int, seconds: float
) -> dict[str, float]:
    start = time.perf_counter() + WARM_UP * seconds
    timed = await asyncio.gather(
        *(
            _client(
                target, method, payloads[i % len(payloads) :] + payloads[: i % len(payloads)], start, seconds
            )
            for i in range(clients)
        )
    )
    latencies = np.array([ms for ok, _ in timed for ms in ok])
    errors = sum(n for _, n in timed)
    p50, p99 = np.percentile(latencies, [50, 99]) if len(latencies) else (np.nan, np.nan)
    return {
        "n": len(latencies),
        "errors": errors,
        "requests_per_s": round(len(latencies) / seconds, 1),
        "p50_ms": round(float(p50), 3),
        "p99_ms": round(float(p99), 3),
    }


async def _client(
    target: str, method: str, payloads: list[bytes], start: float, seconds: float
) -> tuple[list[float], int]:
    """Latencies in ms of the calls that ended within the measured time, and how many failed."""
    latencies: list[float] = []
    errors = 0
    async with grpc.aio.insecure_channel(target, options=OPTIONS) as channel:
        call = channel.unary_unary(method)
        await channel.channel_ready()
        turn = 0
        while (begun := time.perf_counter()) < start + seconds:
            try:
                await call(payloads[turn % len(payloads)], timeout=60)
            except grpc.aio.AioRpcError:
                errors += 1
            else:
                ended = time.perf_counter()
                if start <= ended <= start + seconds:
                    latencies.append((ended - begun) * 1000)
            turn += 1
    return latencies, errors
