"""The commands of the README do what it says."""

import json
import os
import re
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(bash|python)\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)
PORT = "127.0.0.1:50051"
PATH = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
TIMEOUT_S = 120


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "tests").symlink_to(ROOT / "tests")
    return tmp_path


def free_address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def output(language: str, block: str, folder: Path) -> str:
    command = (
        ["bash", "-euo", "pipefail", "-c", block] if language == "bash" else [sys.executable, "-c", block]
    )
    done = subprocess.run(
        command,
        cwd=folder,
        env=os.environ | {"PATH": PATH},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )
    assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@contextmanager
def served(block: str, folder: Path) -> Iterator[None]:
    command = shlex.split(block)
    with (folder / "server.log").open("w") as log:
        server = subprocess.Popen(
            [str(Path(sys.executable).with_name(command[0])), *command[1:]],
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    with server:
        try:
            assert server.stdout is not None
            assert "serving" in server.stdout.readline(), (folder / "server.log").read_text()
            yield
        finally:
            server.terminate()
    assert server.returncode == 0


def test_the_snippets_run_one_after_the_other(folder):
    address = free_address()
    blocks = [(language, text.replace(PORT, address)) for language, text in BLOCKS]
    places = [number for number, (_, text) in enumerate(blocks) if text.startswith("insignia serve ")]
    assert len(places) == 1
    place = places[0]
    said = [output(language, text, folder) for language, text in blocks[:place]]
    with served(blocks[place][1], folder):
        said += [output(language, text, folder) for language, text in blocks[place + 1 :]]
    assert "3 studies added" in said[0]
    assert "kang_stimulated" in said[1].splitlines()[4]  # the first of the groups by sample
    assert json.loads((folder / "beta.json").read_text())["genes"]["missing"] == []
    for name in ("ms1.png", "blood.png"):
        assert (folder / name).stat().st_size > 10_000
    assert "<SearchResult MS1: " in said[-1]


PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "tests" / "data" / "README.md"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_links_to_is_there(page):
    links = [link for link in re.findall(r"\]\(([^)#]+)", page.read_text()) if "://" not in link]
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_every_make_target_of_the_readme_is_one():
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    named = re.findall(r"(?:^|`)make ([a-z-]+)", README, flags=re.MULTILINE)
    assert set(named) >= {"demo", "test", "bench"}
    assert set(named) <= set(targets)
