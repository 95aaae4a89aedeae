"""The command `insignia`: finding its sub-commands, and what a process of it loads."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import click
import pytest

from insignia_client.cli import main
from insignia_model.errors import AtlasNotFound


@pytest.fixture
def commands(monkeypatch: Any) -> Any:
    def use(**values: str) -> None:
        entries = [EntryPoint(name, value, main.GROUP) for name, value in values.items()]
        monkeypatch.setattr(main, "entry_points", lambda group: entries)
        main.insignia.__dict__.pop("found", None)

    yield use
    main.insignia.__dict__.pop("found", None)


def test_help_lists_every_command_even_those_that_cannot_run(
    commands: Any, capsys: Any, monkeypatch: Any
) -> None:
    monkeypatch.setitem(sys.modules, "h5py", None)
    monkeypatch.setattr(main, "EXTRAS", {"h5py": "index"})
    commands(
        search="insignia_client.cli.search:search", build="h5py.absent:build", odd="insignia_model:absent"
    )
    assert main.main(["--help"]) == 0
    text = capsys.readouterr().out
    assert re.search(r"search +Best cells", text)
    assert re.search(r"build +\(needs pip install 'insignia\[index\]'\)", text)
    assert re.search(r"odd +\(cannot be loaded: ", text)
    assert main.main(["build", "x", "--replace", "--help"]) == 2
    assert capsys.readouterr().err.startswith("insignia: insignia build needs pip install 'insignia[index]'")
    with pytest.raises(AttributeError):
        main.main(["odd"])


def test_commands_run_and_tell_their_errors(commands: Any, capsys: Any) -> None:
    module = sys.modules[__name__]
    module.greet = greet  # type: ignore[attr-defined]
    sys.modules["greeting"] = module
    commands(greet="greeting:greet")
    assert main.main(["--help"]) == 0
    assert re.search(r"greet +Say hello to NAME\.\n", capsys.readouterr().out)
    assert main.main(["greet", "--help"]) == 0
    assert "--times" in capsys.readouterr().out
    assert main.main(["greet", "you", "--times", "2"]) == 0
    assert capsys.readouterr().out == "hello you\n" * 2
    assert main.main(["greet", "nobody"]) == 1
    assert (
        capsys.readouterr().err == "insignia: no atlas at nobody; `insignia build nobody FILE...` makes one\n"
    )
    del sys.modules["greeting"]


@click.command()
@click.argument("name")
@click.option("--times", default=1)
def greet(name: str, times: int) -> None:
    """Say hello to NAME."""
    if name == "nobody":
        raise AtlasNotFound(name)
    click.echo("\n".join([f"hello {name}"] * times))


def test_an_interrupt_is_exit_code_130(commands: Any, capsys: Any, monkeypatch: Any) -> None:
    commands(search="insignia_client.cli.search:search")

    def interrupted(*_: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr("insignia_client.cli.search.open_backend", interrupted)
    assert main.main(["search", "--genes", "CD14", "--server", "x:1"]) == 130


def test_there_is_a_version(capsys: Any) -> None:
    assert main.main(["--version"]) == 0
    assert re.fullmatch(r"insignia \d+\.\d+\.\d+\S*\n", capsys.readouterr().out)


# --- processes --------------------------------------------------------------------------------------------

HEAVY = "pandas matplotlib typer rich numba lmdb anndata h5py scipy torch faiss pyarrow zarr tiledb"
HEAVY += " insignia_index"


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)


def test_importing_the_client_loads_nothing_heavy() -> None:
    done = python(
        "import sys, insignia_client as c; c.Client; c.AsyncClient\n"
        f"print([m for m in {HEAVY.split()!r} if m in sys.modules])"
    )
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_a_search_from_the_shell_loads_nothing_heavy(server: Any) -> None:
    done = python(
        "import sys; from insignia_client.cli.main import main\n"
        f"code = main(['search', '--server', {server.target!r}, '--genes', 'CD14'])\n"
        f"print(code, [m for m in {HEAVY.split()!r} if m in sys.modules], file=sys.stderr)"
    )
    assert done.stderr == "0 []\n"
    assert "cells are hits" in done.stdout


def test_a_reader_that_leaves_early_is_no_error(server: Any) -> None:
    shell = (
        f"{sys.executable} -m insignia_client.cli.main scores --server {server.target} --genes CD14 | true"
    )
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, timeout=60)
    assert done.stderr == ""


@pytest.mark.parametrize("name", ["search", "similar", "explain", "scores", "screen", "genes"])
def test_examples_in_the_help_keep_their_lines(name: str, capsys: Any) -> None:
    assert main.main([name, "--help"]) == 0
    shown = capsys.readouterr().out
    assert "\b" not in shown
    assert r"\b" not in shown
    assert f"\n    insignia {name} " in shown


@pytest.mark.parametrize(
    ("shell", "code", "said"),
    [
        ("> /dev/full", 1, "insignia: No space left on device\n"),
        (">&-", 0, ""),
        (">/dev/null", 0, ""),
    ],
)
@pytest.mark.parametrize("command", ["search", "scores"])
def test_a_stdout_that_takes_nothing_is_told_in_a_line(
    server: Any, command: str, shell: str, code: int, said: str
) -> None:
    if "full" in shell and not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full here")
    run = f"-m insignia_client.cli.main {command} --server {server.target} --genes CD14 {shell}"
    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} {run}"], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (code, said)


def test_text_that_stdout_cannot_encode_is_told_in_a_line(server: Any) -> None:
    done = python(
        "import sys; from insignia_client.cli.main import main\n"
        "sys.stdout.reconfigure(encoding='ascii')\n"
        f"sys.exit(main(['genes', '--server', {server.target!r}, 'g\\u00e8ne']))"
    )
    assert done.returncode == 1
    assert done.stderr.startswith("insignia: cannot write '\\xe8' as ascii; ")
