"""The server as a process: what it prints, how it fails, how it ends."""

import itertools
import signal
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from insignia_client import Client
from insignia_model.errors import InsigniaError, ServiceError

from .serving import INSIGNIA

GENES = ["ISG15", "IFI6", "IFIT1", "CD14", "LYZ"]
TIMEOUT_S = 60


@pytest.fixture
def process(atlas_path):
    command = [INSIGNIA, "serve", atlas_path, "--listen", "127.0.0.1:0", "--access-log"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as process:
        yield process
        process.kill()


def address_of(process):
    return process.stdout.readline().split()[-1]


def test_it_prints_one_line_when_it_is_ready_and_logs_to_stderr(process, atlas_path, atlas):
    line = process.stdout.readline()
    info, address = atlas.info(), line.split()[-1]
    studies = f"{info.n_studies:,} studies, {info.n_cells:,} cells"
    assert line == f"insignia: serving {atlas_path} ({studies}) on {address}\n"
    with Client(address) as client:
        client.search(GENES)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=TIMEOUT_S)
    assert (out, process.returncode) == ("", 0)
    assert "Search OK" in err
    assert "Traceback" not in err


def test_an_address_that_is_taken_is_one_sentence_and_exit_code_1(atlas_path, address):
    command = [INSIGNIA, "serve", atlas_path, "--listen", address]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S)
    assert (done.returncode, done.stdout) == (1, "")
    sentences = [line for line in done.stderr.splitlines() if line.startswith("insignia: ")]
    assert len(sentences) == 1
    assert f"cannot listen on {address}: the port is taken" in sentences[0]
    assert "Traceback" not in done.stderr


def test_a_path_without_an_atlas_is_one_sentence_and_exit_code_1(tmp_path):
    command = [INSIGNIA, "serve", tmp_path / "nothing"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("insignia: no atlas at ")


def test_many_clients_at_once_get_the_answers_of_one(atlas, address):
    expected = atlas.search(GENES, group_by=("study", "condition"))

    def ask(_):
        with Client(address) as client:
            for _ in range(5):
                answer = client.search(GENES, group_by=("study", "condition"))
                assert answer.cells.equals(expected.cells)
                assert list(answer.group_table.rows()) == list(expected.group_table.rows())

    with ThreadPoolExecutor(16) as clients:
        list(clients.map(ask, range(16)))


def test_sigterm_among_searches_answers_what_runs_and_refuses_the_rest_clearly(process, atlas):
    expected = atlas.search(GENES).n_hits
    address = address_of(process)
    answers, refusals, busy = [], [], threading.Barrier(5)

    def ask(_):
        with Client(address, retries=0) as client:
            for turn in itertools.count():
                try:
                    answers.append(client.search(GENES).n_hits)
                except InsigniaError as error:
                    refusals.append(error)
                    return
                if turn == 0:
                    busy.wait(TIMEOUT_S)

    with ThreadPoolExecutor(4) as clients:
        asked = clients.map(ask, range(4))
        busy.wait(TIMEOUT_S)
        process.send_signal(signal.SIGTERM)
        list(asked)
    _, err = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 0
    assert set(answers) == {expected}
    assert len(refusals) == 4
    assert all(isinstance(error, ServiceError) for error in refusals)
    assert "Traceback" not in err


def test_a_stream_that_is_left_half_way_costs_the_server_nothing(address):
    with Client(address) as client:
        for _ in range(40):  # more than may be open at once
            stream = client.iter_scores(GENES)
            assert len(next(stream).scores) > 0
            stream.close()
        assert client.search(GENES).n_cells > 0
