import math

import pytest

from insignia_index.search.gene_cache import GENE_CACHE_BYTES
from insignia_model.errors import InvalidArgument
from insignia_server.config import HIGHEST, LOWEST, ServerConfig


def test_as_many_searches_run_at_once_as_there_are_threads_unless_said_otherwise():
    assert ServerConfig(threads=3).max_concurrent == 3
    assert ServerConfig(threads=3, max_concurrent=5).max_concurrent == 5


@pytest.mark.parametrize("name", sorted(LOWEST))
def test_a_setting_below_its_lowest_value_is_refused_by_name(name):
    with pytest.raises(InvalidArgument, match=name):
        ServerConfig(**{name: min(LOWEST[name], 0) - 1})


@pytest.mark.parametrize("name", sorted(HIGHEST))
def test_a_setting_above_its_largest_value_is_refused_by_name(name):
    with pytest.raises(InvalidArgument, match=rf"{name}: \d+ is above"):
        ServerConfig(**{name: HIGHEST[name] + 1})


def test_not_a_number_is_refused():
    with pytest.raises(InvalidArgument, match="grace_s"):
        ServerConfig(grace_s=math.nan)


@pytest.mark.parametrize(
    "listen", ["", "50051", "localhost", ":50051", "127.0.0.1:", "host:65536", "host:-1", "unix:/a/b:0"]
)
def test_what_is_no_address_is_refused(listen):
    with pytest.raises(InvalidArgument, match="HOST:PORT"):
        ServerConfig(listen=listen)


@pytest.mark.parametrize(("host", "local"), [("127.0.0.1", True), ("[::1]", True), ("0.0.0.0", False)])
def test_an_address_is_known_to_be_this_machines_alone(host, local):
    assert ServerConfig(listen=f"{host}:0").is_local is local


@pytest.mark.parametrize("device", ["auto", "cpu", "cuda", "cuda:3"])
def test_devices_are_taken(device):
    assert ServerConfig(device=device).device == device


@pytest.mark.parametrize("device", ["", "gpu", "cuda:", "cuda:x", "CPU", "cuda:0\n"])
def test_what_is_no_device_is_refused(device):
    with pytest.raises(InvalidArgument, match="cuda:N"):
        ServerConfig(device=device)


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "[::]:50051", "localhost:65535"])
def test_addresses_are_taken(listen):
    assert ServerConfig(listen=listen).listen == listen


def test_the_cache_is_as_large_as_an_embedded_atlas_has_it():
    assert ServerConfig().cache_bytes == GENE_CACHE_BYTES


def test_processes_share_what_may_be_done_at_once_and_have_all_threads():
    config = ServerConfig(threads=4, processes=3, max_queued=10, max_streams=4, cache_bytes=90)
    one = config.of_one("127.0.0.1:7")
    assert (one.listen, one.shares_port, one.processes, one.threads) == ("127.0.0.1:7", True, 1, 4)
    assert (one.max_concurrent, one.max_queued, one.max_streams, one.cache_bytes) == (2, 4, 2, 30)


def test_processes_do_not_share_a_gpu():
    assert ServerConfig(processes=2).processes == 2
    with pytest.raises(InvalidArgument, match="processes: 2 cannot share a GPU"):
        ServerConfig(processes=2, device="cuda")
