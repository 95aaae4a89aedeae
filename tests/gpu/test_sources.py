"""The kernels compile for devices without a warning, if there is a compiler; Python knows their records."""

import ctypes
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from insignia_index.gpu import layout
from insignia_index.gpu.cuda import CudaDevice
from insignia_index.gpu.source import KERNELS, OPTIONS, kernel_source
from insignia_index.kernels.moments import CHAINS

from .conftest import MakeDevice


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="needs nvcc")
@pytest.mark.parametrize("architecture", ["sm_75", "sm_80", "sm_90", "sm_120"])
def test_the_kernels_compile_for_a_device_without_warnings(tmp_path: Path, architecture: str) -> None:
    source = tmp_path / "kernels.cu"
    source.write_text(kernel_source())
    command = ["nvcc", *OPTIONS, f"-arch={architecture}", "-cubin", "-Xptxas", "-v"]
    command += ["-Werror", "all-warnings", "-o", tmp_path / "kernels.cubin", source]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    # values that do not fit into registers would go to memory and back
    assert set(re.findall(r"(\d+) bytes spill", done.stderr)) == {"0"}
    compiled = set(re.findall(r"Compiling entry function '(\w+)'", done.stderr))
    assert compiled == set(KERNELS)


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="needs nvcc")
def test_no_instruction_takes_small_numbers_for_zero_or_fuses_unasked(tmp_path: Path) -> None:
    source, assembly = tmp_path / "kernels.cu", tmp_path / "kernels.ptx"
    source.write_text(kernel_source())
    command = ["nvcc", *OPTIONS, "-arch=sm_80", "-ptx", "-o", assembly, source]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    text = assembly.read_text()
    assert "fma.rn.f32" in text  # bitmaps are added so
    assert ".ftz" not in text


def test_python_names_the_kernels_that_there_are() -> None:
    declared = re.findall(r'extern "C" __global__ void (?:SCORING_BOUNDS )?(\w+)\(', kernel_source())
    assert set(declared) == set(KERNELS)


def test_the_compiler_is_told_as_many_threads_as_are_launched() -> None:
    found = re.search(r"__launch_bounds__\((\d+), \d+\)", kernel_source())
    assert found is not None
    assert int(found[1]) == CudaDevice.n_threads


@pytest.mark.parametrize(
    ("record", "name"),
    [(layout.BLOCK, "Block"), (layout.TILE, "Tile"), (layout.TARGET, "Target"), (layout.QUERY, "Query")],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_records_have_the_fields_of_the_source_in_its_order(record: np.dtype, name: str) -> None:
    body = re.search(rf"struct {name} {{(.*?)\n}};", kernel_source(), re.DOTALL)
    assert body is not None
    kinds = {"u64": "<u8", "i64": "<i8", "double": "<f8", "u32": "<u4"}
    fields = [
        (field.strip(), kinds[kind])
        for kind, fields in re.findall(r"^\s*(u64|i64|double|u32) ([^;]*);", body[1], re.MULTILINE)
        for field in fields.split(",")
    ]
    assert [(field, record[field].str) for field in record.names or ()] == fields


@pytest.mark.parametrize("name", ["DIGITS", "DIGIT_BITS", "TARGETS", "GROUP_WORDS", "LARGE_SLOT"])
def test_constants_are_those_of_the_source(name: str) -> None:
    found = re.search(rf"\b{name} = (\d+)", kernel_source())
    assert found is not None
    assert int(found[1]) == getattr(layout, name)


def test_scores_are_added_in_as_many_chains_as_on_the_processor() -> None:
    found = re.search(r"\bCHAINS = (\d+)", kernel_source())
    assert found is not None
    assert int(found[1]) == CHAINS


def test_the_tile_is_that_of_the_source() -> None:
    found = re.findall(r"TILE = (\d+), KEY_BITS = (\d+)", kernel_source())
    assert {int(bits) // 2: int(cells) for cells, bits in found} == layout.TILE_CELLS


@pytest.mark.parametrize(("value_bits", "dtype"), [(16, np.float32), (32, np.float64)])
def test_a_key_gives_its_score_back(value_bits: int, dtype: type) -> None:
    for score in (0.0, 1.5, -2.25, 1e-40, -1e30, np.inf, -np.inf):
        bits = int(dtype(score).view(f"u{dtype(0).itemsize}"))
        top = 1 << (2 * value_bits - 1)
        key = (~bits if bits & top else bits | top) & (2 * top - 1)
        assert layout.score_of_key(key, value_bits) == dtype(score)


def test_a_kernel_that_writes_beyond_its_memory_is_noticed(make_device: MakeDevice) -> None:
    device = make_device()
    if device.name != "emulated":
        pytest.skip("the guards are the emulated device's")
    memory = device.allocate(64)
    ctypes.memset(memory.address + 64, 0, 1)
    with pytest.raises(AssertionError, match="wrote behind its memory"):
        device.launch("scan_ties", (0, 0), 0)
