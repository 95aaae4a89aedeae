"""Options of all tests."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--device",
        choices=["emulated", "cuda"],
        default="emulated",
        help="where the GPU engine is tested: on a stand-in made by g++, or on a GPU, which must be there",
    )
