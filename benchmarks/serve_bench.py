"""Searches over gRPC: what the transport adds, a cold command line, many clients at once."""

import itertools
import subprocess
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import grpc
import numpy as np

from atlases import Bench
from echo import echo_throughput
from insignia_client import Client, SearchRequest
from insignia_client._convert import search_request
from insignia_index import Atlas
from insignia_proto.v1 import insignia_pb2 as pb
from load import OPTIONS, SEARCH, load_test
from report import Row, Section, milliseconds
from serving import INSIGNIA, running_server
from timing import interleaved, n_cores, p50, p99, timed

LOAD_LISTS = ("MS1", "20 genes", "86 genes")  # taken in turn


def transport(bench: Bench) -> Section:
    """Time the same searches in this process and over gRPC, in turn, on one thread."""
    sizes, rows = bench.sizes, []
    path = bench.atlas(sizes.search)
    with (
        TemporaryDirectory() as folder,
        Atlas.open(path, threads=1) as atlas,
        running_server(path, Path(folder, "log"), "--threads", "1") as address,
        Client(address) as client,
    ):
        for name in bench.gene_lists:
            request = bench.request(name)
            ways = {
                "embedded": lambda request=request: atlas.run(request, threads=1),
                "grpc": lambda request=request: client.run(request),
            }
            seconds = interleaved(ways, sizes.rounds, sizes.in_a_row)
            added = {f: 1000 * (f(seconds["grpc"]) - f(seconds["embedded"])) for f in (p50, p99)}
            rows += [
                milliseconds(f"{name}: over gRPC", seconds["grpc"]),
                Row(f"{name}: added by gRPC", added[p50], "ms", f"at p99 {added[p99]:.2g} ms", at_most=3),
            ]
    return Section(f"Over gRPC, one thread, 100 cells returned: {sizes.search}", tuple(rows))


def command_line(bench: Bench) -> Section:
    """Time `insignia search` from a cold process, against a server and on the directory itself."""
    sizes = bench.sizes
    path = bench.atlas(sizes.search)
    genes = ",".join(bench.gene_lists["86 genes"])
    command = [INSIGNIA, "search", "--genes", genes, "--group-by", "study", "--format", "json"]
    with TemporaryDirectory() as folder, running_server(path, Path(folder, "log")) as address:

        def seconds(*where: str | Path) -> np.ndarray:
            run = [*command, *where]
            return np.array([timed(lambda: _quiet(run)) for _ in range(sizes.processes)])

        served, embedded = seconds("--server", address), seconds("--atlas", path)
    rows = (
        Row("against a server", p50(served), "s", f"slowest {served.max():.2f} s", at_most=1),
        Row("on the atlas directory", p50(embedded), "s", f"slowest {embedded.max():.2f} s", at_most=2.5),
    )
    return Section(f"`insignia search` of 86 genes, process start included: {sizes.search}", rows)


def many_clients(bench: Bench) -> Section:
    """Load a server with many clients, beside what the cores and what gRPC allow."""
    sizes = bench.sizes
    path = bench.atlas(sizes.search)
    requests = [bench.request(name) for name in LOAD_LISTS]
    messages = [search_request(request) for request in requests]
    n_processes, loads = n_cores(), {}
    for n in sorted({1, n_processes}):
        options = ("--processes", str(n))
        with TemporaryDirectory() as folder, running_server(path, Path(folder, "log"), *options) as address:
            n_bytes = [(len(m.SerializeToString()), response_bytes(address, m)) for m in messages]
            loads[n] = load_test(address, messages, sizes.clients, sizes.load_s)
    load = loads[n_processes]
    sent, received = (int(np.mean(n)) for n in zip(*n_bytes, strict=True))
    cores = embedded_throughput(path, requests, n_cores(), sizes.load_s / 3)
    echo = echo_throughput(sent, received, sizes.clients, sizes.load_s / 3)
    bound = min(cores, echo["requests_per_s"])
    rows = (
        *(
            Row(
                f"searches, {'one process' if n == 1 else f'{n} processes'}",
                of["requests_per_s"],
                "/s",
                f"p50 {of['p50_ms']:.1f} ms, p99 {of['p99_ms']:.1f} ms",
            )
            for n, of in loads.items()
        ),
        Row("errors", sum(of["errors"] for of in loads.values()), at_most=0),
        Row("what the cores allow", cores, "/s", f"embedded, {n_cores()} threads of 1-thread searches"),
        Row("bare echo", echo["requests_per_s"], "/s", f"{sent:,} bytes in, {received:,} bytes out"),
        Row("share of the lower bound", 100 * load["requests_per_s"] / bound, "%", at_least=80),
    )
    mix = ", ".join(LOAD_LISTS)
    return Section(f"{sizes.clients} clients for {sizes.load_s:g} s ({mix} in turn): {sizes.search}", rows)


def response_bytes(address: str, message: pb.SearchRequest) -> int:
    """Return the size of the answer to a search."""
    with grpc.insecure_channel(address, OPTIONS) as channel:
        answer: bytes = channel.unary_unary(SEARCH)(message.SerializeToString(), timeout=60)
    return len(answer)


def embedded_throughput(
    path: Path, requests: Sequence[SearchRequest], n_threads: int, seconds: float
) -> float:
    """Return searches a second of `n_threads` threads that each search on one thread."""
    counts = [0] * n_threads
    with Atlas.open(path, threads=n_threads) as atlas:
        for request in requests:
            atlas.run(request, threads=1)
        until = time.perf_counter() + seconds

        def search(number: int) -> None:
            for request in itertools.cycle(requests):
                if time.perf_counter() >= until:
                    return
                atlas.run(request, threads=1)
                counts[number] += 1

        threads = [threading.Thread(target=search, args=(number,)) for number in range(n_threads)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return sum(counts) / seconds


def _quiet(command: Sequence[str | Path]) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
