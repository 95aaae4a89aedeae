import logging
import subprocess
import sys

import pytest
from click.testing import CliRunner

from insignia_model.errors import InvalidArgument
from insignia_server import cli
from insignia_server.config import ServerConfig


@pytest.fixture
def serve(monkeypatch):
    """Run the command; the path and the settings that it would serve."""
    calls = []
    monkeypatch.setattr(cli, "_serve", lambda path, config, level: calls.append((path, config)))
    monkeypatch.setattr(cli, "log_to_stderr", lambda level: None)

    def run(*arguments, **environment):
        done = CliRunner().invoke(cli.serve, arguments, env=environment, catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return calls[-1]

    return run


def test_without_flags_the_settings_are_the_defaults(serve):
    path, config = serve("my.atlas")
    assert str(path) == "my.atlas"
    assert config == ServerConfig()


def test_flags_become_settings(serve):
    flags = "--listen 0.0.0.0:0 --threads 3 --processes 2 --max-concurrent 5 --max-queued 7 --max-k 9"
    flags += " --max-genes 11 --max-streams 2 --max-groups 13 --max-message-bytes 100000"
    flags += " --device cpu --device-memory 5000"
    _, config = serve(
        "my.atlas", *flags.split(), *["--refresh", "0.5", "--grace", "2", "--no-reflection", "--access-log"]
    )
    assert config == ServerConfig(
        listen="0.0.0.0:0",
        threads=3,
        processes=2,
        max_concurrent=5,
        max_queued=7,
        max_k=9,
        max_genes=11,
        max_streams=2,
        max_groups=13,
        max_message_bytes=100_000,
        device="cpu",
        device_memory=5000,
        refresh_s=0.5,
        grace_s=2.0,
        reflection=False,
        access_log=True,
    )


def test_the_environment_gives_settings_and_flags_win(serve):
    environment = {"INSIGNIA_LISTEN": "127.0.0.1:7", "INSIGNIA_THREADS": "3"}
    assert serve("my.atlas", **environment)[1].listen == "127.0.0.1:7"
    config = serve("my.atlas", "--listen", "127.0.0.1:8", **environment)[1]
    assert (config.listen, config.threads) == ("127.0.0.1:8", 3)


def test_a_device_is_a_setting(serve):
    assert serve("my.atlas", "--device", "auto")[1].device == "auto"


def test_a_bad_setting_is_an_error_that_names_it(serve):
    with pytest.raises(InvalidArgument, match="threads: 0 is below 1"):
        serve("my.atlas", "--threads", "0")


def test_an_unknown_log_level_is_refused():
    with pytest.raises(InvalidArgument, match="log_level"):
        cli.log_to_stderr("LOUD")


def test_log_levels_may_be_written_small(monkeypatch):
    given = []
    monkeypatch.setattr(logging, "basicConfig", lambda **settings: given.append(settings["level"]))
    cli.log_to_stderr("debug")
    assert given == ["DEBUG"]


def test_help_loads_neither_kernels_nor_grpc():
    code = "import sys, insignia_server.cli; print({'numba', 'grpc', 'insignia_index'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "set()", done.stderr
