"""One server process: an atlas, opened and served."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from insignia_index import Atlas
from insignia_model import AtlasInfo
from insignia_server import app
from insignia_server.config import ServerConfig


def serve_one(path: Path, config: ServerConfig, ready: Callable[[str], None]) -> None:
    """Serve an atlas until SIGTERM, SIGINT or SIGHUP; ``ready`` is told what and where when it is up."""
    with Atlas.open(
        path,
        threads=config.threads,
        cache_bytes=config.cache_bytes,
        device=config.device,
        device_memory=config.device_memory or None,
    ) as engine:
        engine.warm()
        info = engine.info()
        asyncio.run(app.serve(engine, config, lambda address: ready(serving(path, info, address))))


def serving(path: Path, info: AtlasInfo, address: str, n_processes: int = 1) -> str:
    """What is served where, in words."""
    holds = f"{info.n_studies:,} studies, {info.n_cells:,} cells"
    if info.device:
        holds += f", {info.n_cells_on_device:,} of them on {info.device}"
    if n_processes > 1:
        holds += f", {n_processes} processes"
    return f"serving {path} ({holds}) on {address}"
