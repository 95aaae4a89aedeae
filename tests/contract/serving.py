"""`insignia serve` for tests."""

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

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
