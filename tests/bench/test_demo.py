"""`make demo`, and the commands that it proposes."""

import os
import re
import subprocess
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
PICTURES = {"interferon.png", "beta_cells.png", "ms1.png", "demo.png"}


def test_the_demo_answers_as_expected_and_its_commands_work(tmp_path):
    demo = [sys.executable, BENCHMARKS / "demo.py", "--out", "demo"]
    done = subprocess.run(demo, cwd=tmp_path, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stdout + done.stderr
    assert {file.name for file in (tmp_path / "demo").glob("*.png")} == PICTURES
    commands = [line.strip() for line in done.stdout.splitlines() if re.match(r"  \S+insignia ", line)]
    here = [command for command in commands if "127.0.0.1" not in command]
    assert len(here) == 3
    assert len(commands) == 5
    for command in here:
        tried = subprocess.run(command, shell=True, cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert tried.returncode == 0, command + tried.stderr


def test_an_unexpected_answer_fails_with_a_sentence(tmp_path):
    wrong = (
        "import demo, dataclasses, sys\n"
        "never = lambda result: False\n"
        "demo.QUESTIONS = tuple(dataclasses.replace(q, expected=never) for q in demo.QUESTIONS)\n"
        "sys.argv = ['demo.py', '--out', 'demo']\n"
        "sys.exit(demo.main())"
    )
    paths = os.pathsep.join(filter(None, (str(BENCHMARKS), os.environ.get("PYTHONPATH"))))
    done = subprocess.run(
        [sys.executable, "-c", wrong],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1].startswith("demo: interferon: expected otherwise:")
