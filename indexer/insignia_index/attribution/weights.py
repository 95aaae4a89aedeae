"""Reading a model's files without running anything that is in them."""

from __future__ import annotations

import json
import pickle
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from insignia_index.attribution.errors import UnreadableModel, UnsafeWeights

# What torch raises on files that are cut off or made of other bytes.
DAMAGE = (
    OSError,
    RuntimeError,
    EOFError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    AssertionError,
    MemoryError,
    zipfile.BadZipFile,
)


def read_checkpoint(path: Path, allowed: Sequence[Any] = ()) -> dict[str, Any]:
    """What ``torch.save`` wrote: tensors and plain containers, and objects of the ``allowed`` types only."""
    if not path.is_file():
        raise UnreadableModel(path, "there is no such file, and the model needs it")
    try:
        with torch.serialization.safe_globals(list(allowed)):
            # mapped, so that of a file of several models only the one that is used takes memory
            mapped = zipfile.is_zipfile(path)
            found = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        if "Unsupported operand" in str(error) and not zipfile.is_zipfile(path):
            raise _damaged(path, error) from error  # no pickle at all
        raise UnsafeWeights(path, _first_reason(error)) from error
    except DAMAGE as error:
        raise _damaged(path, error) from error
    if not isinstance(found, dict):
        raise UnreadableModel(path, f"it holds {type(found).__name__}, not a dictionary of weights")
    return found


def _damaged(path: Path, error: Exception) -> UnreadableModel:
    reason = _first_reason(error) or type(error).__name__
    return UnreadableModel(path, f"it is no checkpoint of torch, or it is cut off ({reason}); get it again")


def _first_reason(error: Exception) -> str:
    """The global that torch refused, of its page of advice."""
    lines = [line.strip() for line in str(error).splitlines() if "GLOBAL" in line or "Unsupported" in line]
    return (lines or str(error).splitlines() or [""])[0][:200]


def load_state(path: Path, module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Put weights into a module, every one of them; the module is in evaluation mode after."""
    try:
        module.load_state_dict(dict(state))
    except (RuntimeError, TypeError, AttributeError) as error:
        problem = " ".join(str(error).split())[:300]
        raise UnreadableModel(path, f"its weights are not those of the model ({problem})") from error
    module.eval()
    module.requires_grad_(False)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object."""
    try:
        found = json.loads(path.read_text())
    except FileNotFoundError:
        raise UnreadableModel(path, "there is no such file, and the model needs it") from None
    except (OSError, ValueError) as error:
        raise UnreadableModel(path, f"it is not JSON ({error})") from error
    if not isinstance(found, dict):
        raise UnreadableModel(path, "it holds no JSON object")
    return found


def read_lines(path: Path) -> list[str]:
    """Lines that are not empty, without spaces around them."""
    try:
        return [line.strip() for line in path.read_text("utf-8-sig").splitlines() if line.strip()]
    except FileNotFoundError:
        raise UnreadableModel(path, "there is no such file, and the model needs it") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UnreadableModel(path, f"it cannot be read ({error})") from error
