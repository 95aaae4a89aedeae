"""The device of these tests: emulated by g++ unless `--device cuda` asks for a real one."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings

from insignia_index import Atlas
from insignia_index.gpu.device import Device
from insignia_index.gpu.engine import DeviceEngine

from .emulated import EmulatedDevice, compile_library

MakeDevice = Callable[..., Device]
OpenAtlas = Callable[..., Atlas]

settings.register_profile(
    "devices",
    deadline=None,
    print_blob=True,
    max_examples=25,
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@pytest.fixture(scope="session")
def make_device(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> MakeDevice:
    """Maker of devices; the emulated one has options."""
    if request.config.getoption("device") == "cuda":
        from insignia_index.gpu.cuda import open_device

        make = open_device("cuda")
        assert make is not None
        return lambda **_: make()
    if shutil.which("g++") is None:
        pytest.skip("needs g++ to run the GPU's kernels on the processor, or --device cuda and a GPU")
    library = compile_library(tmp_path_factory.mktemp("kernels"))
    return lambda **options: EmulatedDevice(library, **options)


@pytest.fixture(scope="session")
def open_on_device(make_device: MakeDevice) -> OpenAtlas:
    """Opens an atlas on the device; ``device_memory`` for its postings, other options for the device."""

    def open_atlas(
        path: Path, device_memory: int | None = 1 << 28, threads: int = 2, **options: int
    ) -> Atlas:
        engine = DeviceEngine(lambda: make_device(**options), device_memory)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("insignia_index.atlas.open_engine", lambda *_: engine)
            return Atlas.open(path, threads=threads, device="cuda")

    return open_atlas
