"""Runs commands as in an environment with one extra: what that does not install cannot be imported.

``python tests/as_installed.py EXTRA`` (empty for none) reads a JSON list of argument lists and prints one of
(exit code, output).
"""

import json
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from importlib.metadata import packages_distributions, requires
from types import ModuleType

from packaging.requirements import Requirement


def installed(extra: str) -> set[str]:
    """Names of the distributions that ``insignia[extra]`` installs, its own among them."""
    found: set[tuple[str, tuple[str, ...]]] = set()
    ahead = [("insignia", (extra,))]
    while ahead:
        each = ahead.pop()
        if each in found:
            continue
        found.add(each)
        name, extras = each
        for line in requires(name) or []:
            needed = Requirement(line)
            if needed.marker is None or any(needed.marker.evaluate({"extra": e}) for e in (*extras, "")):
                ahead.append((plain(needed.name), tuple(sorted(needed.extras))))
    return {name for name, _ in found}


def plain(name: str) -> str:
    """Name of a distribution in one spelling."""
    return name.lower().replace("_", "-").replace(".", "-")


def hide(extra: str) -> None:
    """Let no module be found that ``insignia[extra]`` does not install."""
    there, find = installed(extra), PathFinder.find_spec
    absent = {
        module for module, names in packages_distributions().items() if there.isdisjoint(map(plain, names))
    }

    def find_spec(
        name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return None if name.partition(".")[0] in absent else find(name, path, target)

    PathFinder.find_spec = find_spec  # type: ignore[method-assign]
    for name in list(sys.modules):  # what this script itself needed
        if name.partition(".")[0] in absent:
            del sys.modules[name]


def main() -> None:
    """Run the commands one after the other."""
    commands = json.load(sys.stdin)
    hide(sys.argv[1])
    from contract.serving import insignia

    done = [insignia(*command) for command in commands]
    print(json.dumps([(each.returncode, each.stdout + each.stderr) for each in done]))


if __name__ == "__main__":
    main()
