"""Options of all tests."""

import signal

import pytest


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
