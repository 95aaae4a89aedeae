"""`insignia serve`, and the command line, for tests."""

import io
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple

from insignia_client.cli.main import main

DATA = Path(__file__).parents[1] / "data"
INSIGNIA = Path(sys.executable).with_name("insignia")


@contextmanager
def served(atlas: Path, *options: str) -> Iterator[str]:
    """Address of an `insignia serve` in a process of its own."""
    command = [INSIGNIA, "serve", atlas, "--listen", "127.0.0.1:0", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            line = process.stdout.readline() if process.stdout else ""
            found = re.search(r"127\.0\.0\.1:\d+", line)
            assert found, f"no address in {line!r}"
            yield found[0]
        finally:
            process.terminate()
            assert process.wait(20) == 0


class Done(NamedTuple):
    """What a command did."""

    returncode: int
    stdout: str
    stderr: str


def insignia(*arguments: str) -> Done:
    """Run the command `insignia` in this process: to start another one takes seconds."""
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
    with redirect_stdout(out), redirect_stderr(err):
        code = main(arguments)
    return Done(code, *(stream.detach().getvalue().decode() for stream in (out, err)))
