"""Options of all tests."""

import signal

import pytest

#: A file is tested on one core. Those that take longest come first, so that none waits for them at the end.
LONGEST = (
    "tests/bench/test_bench_runs.py",
    "tests/test_readme.py",
    "tests/index/test_import_resume.py",
    "tests/index/test_kernels.py",
    "tests/index/test_replicates.py",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--device",
        choices=["emulated", "cuda"],
        default="emulated",
        help="where the GPU engine is tested: on a stand-in made by g++, or on a GPU, which must be there",
    )


def pytest_configure() -> None:
    # a shell that runs the tests in the background, and nohup, ignore these, and commands would inherit that
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    place = {file: number for number, file in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.nodeid.partition("::")[0], len(place)))
