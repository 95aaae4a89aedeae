"""Several server processes behind one port: what they print, how they share, how they end."""

import os
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest

from insignia_client import Client
from insignia_client.errors import ServerUnavailable

from .serving import INSIGNIA

GENES = ["ISG15", "IFI6", "IFIT1", "CD14", "LYZ"]
TIMEOUT_S = 60


def start(atlas_path, *options):
    command = [INSIGNIA, "serve", atlas_path, "--listen", "127.0.0.1:0", "--processes", "2", *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.fixture
def process(atlas_path):
    with start(atlas_path, "--access-log") as process:
        yield process
        for child in workers(process):
            child.kill()
        process.kill()


def workers(process):
    """The processes that serve: those that listen, or would."""
    try:
        children = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []
    return [child for child in children if "spawn_main" in " ".join(child.cmdline())]


def listeners(process, address):
    port = int(address.split(":")[1])
    return [
        child.pid
        for child in workers(process)
        if any(c.status == psutil.CONN_LISTEN and c.laddr.port == port for c in child.net_connections())
    ]


def test_both_answer_as_the_atlas_does_and_stop_gracefully(process, atlas_path, atlas):
    line = process.stdout.readline()
    info, address = atlas.info(), line.split()[-1]
    holds = f"{info.n_studies:,} studies, {info.n_cells:,} cells, 2 processes"
    assert line == f"insignia: serving {atlas_path} ({holds}) on {address}\n"
    assert len(listeners(process, address)) == 2
    expected = atlas.search(GENES, group_by=("study",))

    def ask(_):
        with Client(address) as client:  # connections are dealt out among the processes
            answer = client.search(GENES, group_by=("study",))
        assert answer.cells.equals(expected.cells)
        assert list(answer.group_table.rows()) == list(expected.group_table.rows())

    with ThreadPoolExecutor(8) as clients:
        list(clients.map(ask, range(32)))
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=TIMEOUT_S)
    assert (out, process.returncode) == ("", 0)
    assert err.count("Search OK") == 32
    assert "Traceback" not in err
    with Client(address, retries=0) as client, pytest.raises(ServerUnavailable):
        client.search(GENES)


def test_an_address_that_is_taken_is_one_sentence_and_exit_code_1(atlas_path, address, process):
    for taken in (address, process.stdout.readline().split()[-1]):
        command = [INSIGNIA, "serve", atlas_path, "--listen", taken, "--processes", "2"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S)
        assert (done.returncode, done.stdout) == (1, "")
        assert f"cannot listen on {taken}: the port is taken" in done.stderr
        assert "Traceback" not in done.stderr


def test_a_path_without_an_atlas_is_one_sentence_and_exit_code_1(tmp_path):
    with start(tmp_path / "nothing") as process:
        out, err = process.communicate(timeout=TIMEOUT_S)
    assert (out, process.returncode) == ("", 1)
    assert err.startswith("insignia: no atlas at ")
    assert err.count("\n") == 1


def test_when_one_ends_all_end_with_an_error_that_names_it(process):
    process.stdout.readline()
    victim = workers(process)[0]
    others = workers(process)
    victim.kill()
    _, err = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 1
    assert "ended with exit code -9" in err
    assert "Traceback" not in err
    assert not psutil.wait_procs(others, timeout=TIMEOUT_S)[1]


def test_none_is_left_when_the_first_process_is_killed(process):
    process.stdout.readline()
    left = workers(process)
    assert len(left) == 2
    process.kill()
    assert not psutil.wait_procs(left, timeout=TIMEOUT_S)[1]


def test_a_signal_while_they_start_ends_them_all(atlas_path):
    with start(atlas_path) as process:
        until = time.monotonic() + TIMEOUT_S
        while not workers(process) and time.monotonic() < until:
            time.sleep(0.01)
        left = workers(process)
        os.kill(process.pid, signal.SIGTERM)
        process.communicate(timeout=TIMEOUT_S)
        assert not psutil.wait_procs(left, timeout=TIMEOUT_S)[1]
