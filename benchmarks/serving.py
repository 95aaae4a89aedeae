"""A real `insignia serve` in a process of its own, for as long as a block lasts."""

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

INSIGNIA = Path(sys.executable).with_name("insignia")  # that of the running environment
STOP_S = 20


@contextmanager
def running_server(atlas: Path, log: Path, *options: str) -> Iterator[str]:
    """HOST:PORT of a server of `atlas` on a free port; stopped, and its exit code checked, at the end."""
    command = [INSIGNIA, "serve", atlas, "--listen", "127.0.0.1:0", *options]
    with log.open("w") as stderr:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True)
    with process:
        try:
            yield _address(process, log)
        finally:
            process.terminate()
            try:
                code = process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                raise RuntimeError(
                    f"the server was still there {STOP_S} s after SIGTERM; see {log}"
                ) from None
    if code != 0:
        raise RuntimeError(f"the server ended with exit code {code}; see {log}")


def _address(process: subprocess.Popen[str], log: Path) -> str:
    line = process.stdout.readline() if process.stdout else ""
    found = re.search(r" on (\S+:\d+)$", line.strip())
    if found is None:
        raise RuntimeError(f"the server did not start: {line or log.read_text()}")
    return found[1]
