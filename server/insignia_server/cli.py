"""``insignia serve``: flags and environment to a `ServerConfig`."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Annotated

import typer

from insignia_model.errors import InvalidArgument
from insignia_server.config import ServerConfig

DEFAULT = ServerConfig()


def serve(
    atlas: Annotated[Path, typer.Argument(help="Atlas directory.")],
    listen: Annotated[
        str, typer.Option(envvar="INSIGNIA_LISTEN", help="HOST:PORT; port 0 takes a free one.")
    ] = DEFAULT.listen,
    threads: Annotated[
        int, typer.Option(envvar="INSIGNIA_THREADS", help="Threads of a search that runs alone.")
    ] = DEFAULT.threads,
    max_concurrent: Annotated[int, typer.Option(help="Searches at once; 0: as many as threads.")] = 0,
    max_queued: Annotated[
        int, typer.Option(help="Requests that may wait; more are refused.")
    ] = DEFAULT.max_queued,
    max_k: Annotated[int, typer.Option(help="Most cells in one answer.")] = DEFAULT.max_k,
    max_genes: Annotated[int, typer.Option(help="Most genes in one signature.")] = DEFAULT.max_genes,
    refresh: Annotated[
        float, typer.Option(help="Seconds between looks for a newer revision.")
    ] = DEFAULT.refresh_s,
    grace: Annotated[
        float, typer.Option(help="Seconds that running requests have when the server stops.")
    ] = DEFAULT.grace_s,
    reflection: Annotated[bool, typer.Option(help="Offer gRPC server reflection.")] = DEFAULT.reflection,
    access_log: Annotated[bool, typer.Option("--access-log", help="Log one line per request.")] = False,
    log_level: Annotated[str, typer.Option(envvar="INSIGNIA_LOG_LEVEL", help="DEBUG, INFO, ...")] = "INFO",
) -> None:
    """Serve an atlas over gRPC until SIGTERM or Ctrl-C."""
    _log_to_stderr(log_level)
    config = ServerConfig(
        listen=listen,
        threads=threads,
        max_concurrent=max_concurrent,
        max_queued=max_queued,
        max_k=max_k,
        max_genes=max_genes,
        refresh_s=refresh,
        grace_s=grace,
        reflection=reflection,
        access_log=access_log,
    )
    _serve(atlas, config)


def _serve(path: Path, config: ServerConfig) -> None:
    from insignia_index import Atlas  # compiles kernels: not needed for --help
    from insignia_server import app

    with Atlas.open(path, threads=config.threads) as engine:
        engine.warm()
        info = engine.info()

        def ready(address: str) -> None:
            holds = f"{info.n_studies:,} studies, {info.n_cells:,} cells"
            print(f"insignia: serving {path} ({holds}) on {address}", flush=True)

        asyncio.run(app.serve(engine, config, ready))


def _log_to_stderr(level: str) -> None:
    levels = logging.getLevelNamesMapping()
    if level.upper() not in levels:
        raise InvalidArgument("log_level", f"{level!r} is not one of {', '.join(levels)}")
    logging.basicConfig(level=level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
