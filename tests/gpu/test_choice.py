"""Which device a user gets, and what is said to one who asks for what is not there."""

import importlib.util
import logging
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from insignia_index import Atlas
from insignia_index.gpu import cuda
from insignia_index.gpu.device import parse_device
from insignia_model.errors import DeviceNotFound, InvalidArgument

from ..index.made import build, study


class NoDriver(Exception):
    """What CuPy raises."""


def fake_cupy(n_devices: int | None, has_compiler: bool = True) -> SimpleNamespace:
    """A CuPy that sees so many devices, or (None) no driver."""

    def count() -> int:
        if n_devices is None:
            raise NoDriver("cudaErrorInsufficientDriver: CUDA driver version is insufficient")
        return n_devices

    def version() -> tuple[int, int]:
        if not has_compiler:
            raise RuntimeError("libnvrtc.so.13: cannot open shared object file")
        return 13, 0

    runtime = SimpleNamespace(getDeviceCount=count, CUDARuntimeError=NoDriver)
    return SimpleNamespace(cuda=SimpleNamespace(runtime=runtime, nvrtc=SimpleNamespace(getVersion=version)))


def test_devices_have_a_kind_and_a_number() -> None:
    found = [parse_device(device) for device in ("cpu", "auto", "cuda", "cuda:0", "cuda:12")]
    assert found == [("cpu", 0), ("auto", 0), ("cuda", 0), ("cuda", 0), ("cuda", 12)]
    for wrong in ("", "gpu", "cuda:", "cuda:-1", "CUDA", "cuda:1 "):
        with pytest.raises(InvalidArgument, match="auto, cpu, cuda or cuda:N"):
            parse_device(wrong)


@pytest.mark.parametrize(
    ("cupy", "device", "problem"),
    [
        (None, "cuda", r"CuPy is not installed: pip install 'insignia\[gpu\]'"),
        (fake_cupy(None), "cuda", "offers no device .*InsufficientDriver"),
        (fake_cupy(0), "cuda", "there are 0 CUDA devices"),
        (fake_cupy(2), "cuda:2", "there are 2 CUDA devices, numbered from 0"),
        (fake_cupy(1, has_compiler=False), "cuda", r"NVRTC.*pip install 'insignia\[gpu\]' \(libnvrtc.so.13"),
    ],
)
def test_a_device_that_is_not_there_says_why_and_auto_takes_the_processor(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    cupy: SimpleNamespace | None,
    device: str,
    problem: str,
) -> None:
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    with pytest.raises(DeviceNotFound, match=problem) as caught:
        cuda.open_device(device)
    assert caught.value.data["device"] == device
    if device == "cuda":
        with caplog.at_level(logging.INFO):
            assert cuda.open_device("auto") is None
        assert "searching on the processor" in caplog.text


def test_a_device_that_is_there_is_made_by_whoever_calls_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", fake_cupy(2))
    assert all(cuda.open_device(device) is not None for device in ("auto", "cuda", "cuda:1"))
    assert cuda.open_device("cpu") is None


@pytest.mark.skipif(importlib.util.find_spec("cupy") is not None, reason="CuPy is installed")
def test_an_atlas_without_cupy(tmp_path: Path) -> None:
    path = build(tmp_path, [study("a")])
    with pytest.raises(DeviceNotFound, match="insignia"):
        Atlas.open(path, device="cuda")
    with Atlas.open(path, device="auto") as atlas:
        assert atlas.info().device == ""
        assert atlas.search(["G1"]).n_cells == 40
    with pytest.raises(InvalidArgument, match="device"):
        Atlas.open(path, device="gpu")


def test_without_a_device_nothing_of_it_is_imported(tmp_path: Path) -> None:
    path = build(tmp_path, [study("a")])
    script = f"""
import sys
from insignia_index import Atlas
with Atlas.open({str(path)!r}) as atlas:
    atlas.search(["G1"])
print([name for name in sys.modules if "cupy" in name or name.startswith("insignia_index.gpu")])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
