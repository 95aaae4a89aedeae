"""Time ways of doing the same side by side, and say on what machine."""

import os
import platform
import sys
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from insignia_index.kernels.memory import HAS_EXPAND, HAS_SHUFFLE, IS_ARM

Seconds = np.ndarray[Any, np.dtype[np.float64]]
BUSY = 0.5  # runnable processes, over the last minute, that are not ours


def timed(work: Callable[[], object]) -> float:
    """Return the seconds that one call takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def interleaved(
    ways: Mapping[str, Callable[[], object]], rounds: int, in_a_row: int = 1
) -> dict[str, Seconds]:
    """Time every way in turn, `rounds` times, `in_a_row` calls a turn; return seconds (rounds * in_a_row,).

    What disturbs one way then disturbs all. Two calls of each before the first round are not counted.
    """
    for work in ways.values():
        work()
        work()
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, work in ways.items():
            seconds[name] += [timed(work) for _ in range(in_a_row)]
    return {name: np.array(values) for name, values in seconds.items()}


def p50(seconds: Seconds) -> float:
    """Return the median."""
    return float(np.median(seconds))


def p99(seconds: Seconds) -> float:
    """Return the 99th percentile."""
    return float(np.percentile(seconds, 99))


def n_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def one_core() -> list[str]:
    """Return the prefix of a command that keeps it on one core, nothing where there is no such tool."""
    return ["taskset", "-c", "0"] if Path("/usr/bin/taskset").exists() else []


def machine() -> dict[str, str]:
    """Return what a figure depends on besides the code."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        models = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        cpu = models[0].partition(":")[2].strip() if models else cpu
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    names = ("numpy", "numba", "grpcio")
    versions = [f"Python {platform.python_version()}", *(f"{name} {version(name)}" for name in names)]
    return {
        "machine": f"{cpu}, {n_cores()} cores, {instructions()}, {memory:.0f} GiB of memory",
        "software": ", ".join([f"{platform.system()} {platform.release()}", *versions]),
    }


def instructions() -> str:
    """Return what the kernels' widest steps are made of."""
    if HAS_EXPAND:
        return "AVX-512"
    if HAS_SHUFFLE:
        return "NEON" if IS_ARM else "AVX2"
    return "no vector instructions that the kernels use"


def warn_if_busy() -> float:
    """Return the machine's load; warn if others compute on it too."""
    load = os.getloadavg()[0]
    if load > BUSY:
        print(f"warning: the machine is busy (load {load:.2f}): figures may be low", file=sys.stderr)
    return load
