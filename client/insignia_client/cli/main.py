"""The one command `insignia`: sub-commands are entry points, errors are one line and an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import NoReturn

import click

from insignia_model.errors import InsigniaError, MissingExtra, RequestError
from insignia_model.optional import extra

GROUP = "insignia.commands"
#: Package of a command: the extra that brings what it needs.
EXTRAS = {"insignia_index": "index", "insignia_server": "server"}

EXIT_FAILED = 1
EXIT_USAGE = 2  # as click's own
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells have it


class Commands(click.Group):
    """Group whose commands are entry points; naming a command loads that one, ``--help`` all."""

    @cached_property
    def found(self) -> dict[str, EntryPoint]:
        """Entry points by command name."""
        return {entry.name: entry for entry in entry_points(group=GROUP)}

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of all commands."""
        return sorted({*self.found, *super().list_commands(ctx)})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Command of this name; one that cannot be loaded says why when it runs."""
        entry = self.found.get(cmd_name)
        if entry is None:
            return super().get_command(ctx, cmd_name)
        try:
            return _loaded(entry)
        except MissingExtra as error:
            return _unavailable(cmd_name, error, f"(needs pip install 'insignia[{error.data['extra']}]')")
        except Exception as error:  # one broken package must not take the other commands with it
            return _unavailable(cmd_name, error, f"(cannot be loaded: {error})")


def _loaded(entry: EntryPoint) -> click.Command:
    package = entry.module.partition(".")[0]
    with extra(EXTRAS.get(package, "all"), f"insignia {entry.name}"):
        command = entry.load()
    if not isinstance(command, click.Command):
        raise TypeError(f"{entry.value} is no click command")
    return command


def _unavailable(name: str, error: Exception, short_help: str) -> click.Command:
    def fail(arguments: tuple[str, ...]) -> NoReturn:
        raise error

    return _passed_on(name, fail, short_help)


def _passed_on(name: str, run: Callable[[tuple[str, ...]], None], doc: str) -> click.Command:
    """Command that gives all its arguments, ``--help`` too, to ``run``."""
    return click.Command(
        name,
        params=[click.Argument(["arguments"], nargs=-1, type=click.UNPROCESSED)],
        callback=run,
        short_help=doc.partition("\n")[0],
        add_help_option=False,
        context_settings={"ignore_unknown_options": True},
    )


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.version_option(package_name="insignia", message="%(prog)s %(version)s")
def insignia() -> None:
    """Search gene signatures in single-cell attribution atlases."""


def _failed(problem: str = "") -> int:
    """Say what went wrong; what stdout still holds is given up, as it would fail again at the end."""
    if problem:
        click.echo(f"insignia: {problem}", err=True)
    with suppress(OSError, ValueError):  # a stdout that is no file
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return EXIT_FAILED


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; exit code 0, 1 (atlas or service failed), 2 (question or usage) or 130 (Ctrl-C)."""
    if sys.stdout is None:  # closed by whoever started the process: nobody wants to read
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115  # as long as the process lives
    try:
        code = insignia.main(arguments, prog_name="insignia", standalone_mode=False)
        sys.stdout.flush()  # a broken pipe shows here, not while Python shuts down
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort:
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        return _failed()
    except UnicodeEncodeError as error:
        text = error.object[error.start : error.end]
        return _failed(f"cannot write {text!a} as {error.encoding}; PYTHONIOENCODING=utf-8 or --out help")
    except OSError as error:
        file = f"{error.filename}: " if error.filename else ""
        return _failed(f"{file}{error.strerror or error}")
    except InsigniaError as error:
        click.echo("insignia: " + " ".join(str(error).split()), err=True)
        return EXIT_USAGE if isinstance(error, RequestError | MissingExtra) else EXIT_FAILED
    return code if isinstance(code, int) else 0


if __name__ == "__main__":
    sys.exit(main())
