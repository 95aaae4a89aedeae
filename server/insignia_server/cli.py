"""``insignia serve``: flags and environment to a `ServerConfig`."""

from __future__ import annotations

import faulthandler
from contextlib import suppress
from pathlib import Path
from typing import Any

import click

from insignia_model.optional import extra
from insignia_server.config import ServerConfig
from insignia_server.logs import log_to_stderr

DEFAULT = ServerConfig()


@click.command()
@click.argument("atlas", type=click.Path(path_type=Path))
@click.option(
    "--listen",
    envvar="INSIGNIA_LISTEN",
    default=DEFAULT.listen,
    show_default=True,
    metavar="HOST:PORT",
    help="Port 0 takes a free one.",
)
@click.option(
    "--threads",
    envvar="INSIGNIA_THREADS",
    default=DEFAULT.threads,
    show_default=True,
    help="Threads for one search while no other runs.",
)
@click.option(
    "--processes",
    envvar="INSIGNIA_PROCESSES",
    default=DEFAULT.processes,
    show_default=True,
    help="Server processes behind one port; more than one helps with many clients at once.",
)
@click.option("--max-concurrent", default=0, help="Searches at once; 0: as many as threads.")
@click.option(
    "--max-queued",
    default=DEFAULT.max_queued,
    show_default=True,
    help="Requests that may wait; more are refused.",
)
@click.option(
    "--max-streams",
    default=DEFAULT.max_streams,
    show_default=True,
    help="Streams of scores that may be open at once.",
)
@click.option("--max-k", default=DEFAULT.max_k, show_default=True, help="Most cells in one answer.")
@click.option(
    "--max-genes", default=DEFAULT.max_genes, show_default=True, help="Most genes in one signature."
)
@click.option(
    "--max-groups",
    default=DEFAULT.max_groups,
    show_default=True,
    help="Most groups, and most samples, in one answer.",
)
@click.option(
    "--max-contributions",
    default=DEFAULT.max_contributions,
    show_default=True,
    help="Most genes times cells, and genes times groups, in one explanation.",
)
@click.option(
    "--max-message-bytes",
    default=DEFAULT.max_message_bytes,
    show_default=True,
    help="Largest request and largest answer.",
)
@click.option(
    "--cache-bytes",
    default=DEFAULT.cache_bytes,
    show_default=True,
    help="Memory for the postings of genes that were asked for.",
)
@click.option(
    "--device",
    envvar="INSIGNIA_DEVICE",
    default=DEFAULT.device,
    show_default=True,
    metavar="auto|cpu|cuda|cuda:N",
    help="Where searches are computed; auto: on a GPU where there is one.",
)
@click.option(
    "--device-memory",
    default=DEFAULT.device_memory,
    metavar="BYTES",
    help="GPU memory for postings; 0: what is free, less room to work in.",
)
@click.option(
    "--refresh",
    "refresh_s",
    default=DEFAULT.refresh_s,
    show_default=True,
    help="Seconds between looks for a newer revision.",
)
@click.option(
    "--grace",
    "grace_s",
    default=DEFAULT.grace_s,
    show_default=True,
    help="Seconds that running requests have when the server stops.",
)
@click.option(
    "--reflection/--no-reflection", default=DEFAULT.reflection, help="Offer gRPC server reflection."
)
@click.option("--access-log", is_flag=True, help="Log one line per request.")
@click.option("--log-level", envvar="INSIGNIA_LOG_LEVEL", default="INFO", help="DEBUG, INFO, ...")
def serve(atlas: Path, log_level: str, **settings: Any) -> None:
    """Serve an atlas over gRPC until SIGTERM, Ctrl-C or the end of its terminal (but for nohup)."""
    log_to_stderr(log_level)
    # a file that somebody cuts off while it is mapped ends the process: let it say where
    with suppress(OSError):  # where stderr is no file
        faulthandler.enable()
    _serve(atlas, ServerConfig(**settings), log_level)


def _serve(path: Path, config: ServerConfig, log_level: str) -> None:
    # modules that compile kernels: not needed for --help
    with extra("server", "insignia serve"):
        from insignia_server.one import serve_one
        from insignia_server.processes import serve_together

    if config.processes > 1:
        serve_together(path, config, log_level, _print_ready)
    else:
        serve_one(path, config, _print_ready)


def _print_ready(line: str) -> None:
    print(f"insignia: {line}", flush=True)
