"""The subcommands of ``vlrun``, and their exit codes. Commands import what they need when they run."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import signal
import sys

import click

import vlrun
from vlrun.cli.ask import ask
from vlrun.cli.bench import bench
from vlrun.cli.cache import cache
from vlrun.cli.chat import chat
from vlrun.cli.installation import can_export, install_command, missing_packages
from vlrun.cli.models import models
from vlrun.cli.plan import plan
from vlrun.cli.pull import pull
from vlrun.cli.serve import serve
from vlrun.cli.startup import EXIT_INTERRUPTED
from vlrun.cli.tasks import tasks
from vlrun.cli.terminal import print_error, print_note
from vlrun.cli.tune import tune
from vlrun.cli.verify import verify
from vlrun.errors import MissingExtra, VlrunError

EXIT_INTERNAL = 1
EXIT_OUTPUT = 8
EXIT_BROKEN_PIPE = 141  # 128 + SIGPIPE

if not os.environ.get("VLRUN_DEBUG"):
    os.environ["RUST_BACKTRACE"] = "0"  # Rust libraries print a stack trace before their panics become errors


class Commands(click.Group):
    """The subcommands. Without its packages ``export`` is not listed, and its error says what to install."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """List the commands in alphabetical order, ``export`` last."""
        return [*super().list_commands(ctx), *(["export"] if can_export() else [])]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the command of that name; imports ``export``."""
        if cmd_name != "export":
            return super().get_command(ctx, cmd_name)
        if not can_export():
            raise click.UsageError(missing_packages("export"))
        try:
            command = importlib.import_module("vlrun_export.command").export
        except ImportError as error:
            raise click.UsageError(missing_packages("export")) from error
        return command if isinstance(command, click.Command) else None


EPILOG = """\b
Examples:
  vlrun ask photo.jpg "What is on the table?"
  vlrun ask invoice.png --task fields --fields total,date -o answer.json
  vlrun pull qwen3-vl-2b
  vlrun ask -m qwen3-vl-2b a.jpg b.jpg "What changed?" --stats
  vlrun chat photo.jpg
  vlrun serve -m qwen3-vl-2b

\b
Without --model, the model is that of VLRUN_MODEL, or of config.toml in
~/.config/vlrun, or a small one for demonstrations with drawn shelves.
docs/commands.md also tells how a shell completes commands with Tab.

\b
Exit codes: 0 success, 1 internal error, 2 usage, 3 image, 4 model folder,
5 prompt exceeds the context, 6 device, 7 checkpoint, 8 output, 9 self-check
of an export, 10 model closed, 11 JSON cut short, 12 server cannot start,
13 hub fails, 14 hub refuses, 130 interrupted, 141 broken pipe."""


@click.group(cls=Commands, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(vlrun.__version__, prog_name="vlrun")
def commands() -> None:
    """Ask Qwen3-VL about images, locally on a CPU or an integrated GPU."""


for command in (ask, bench, cache, chat, models, plan, pull, serve, tasks, tune, verify):
    commands.add_command(command)


def run() -> None:
    """Run a command. An error prints one sentence and exits with a documented code."""
    try:
        commands.main(standalone_mode=False)
        sys.stdout.flush()
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl+C must not interrupt the shutdown
    except click.ClickException as error:
        print_error(_usage(error))
        _exit(error.exit_code)
    except MissingExtra as error:
        _fail(f"{error.need}: run {install_command(error.extra)}", error.exit_code)
    except VlrunError as error:
        _fail(str(error), error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        _fail("interrupted", EXIT_INTERRUPTED)
    except SystemExit as exiting:  # click exits with 1 on a closed pipe, and with 0 after shell completion
        _exit(EXIT_BROKEN_PIPE if exiting.code else 0)
    except BrokenPipeError:
        _exit(EXIT_BROKEN_PIPE)
    except BaseException as error:  # noqa: BLE001 - users never see a stack trace, not even of a Rust panic
        _fail_unexpected(error)


def _usage(error: click.ClickException) -> str:
    """Return what click shows of an error."""
    shown = io.StringIO()
    error.show(shown)
    return shown.getvalue().rstrip("\n")


def _fail_unexpected(error: BaseException) -> None:
    """Report an error that is not vlrun's own, or the Ctrl+C that caused it: libraries turn it into other errors."""
    causes: BaseException | None = error
    while causes is not None:
        if isinstance(causes, KeyboardInterrupt):
            _fail("interrupted", EXIT_INTERRUPTED)
        causes = causes.__cause__ or causes.__context__
    if isinstance(error, OSError):
        _fail(f"cannot write or read: {error.strerror or error}", EXIT_OUTPUT)
    if isinstance(error, ImportError):
        _fail(f"a package is missing or too old ({error}): run {install_command()}", EXIT_INTERNAL)
    if os.environ.get("VLRUN_DEBUG"):
        raise error
    _fail(f"internal error ({type(error).__name__}: {error}); set VLRUN_DEBUG=1 for a stack trace", EXIT_INTERNAL)


def _fail(sentence: str, code: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl+C must not interrupt the message with a stack trace
    print_note(" ".join(sentence.split()))
    _exit(code)


def _exit(code: int) -> None:
    """Exit immediately, without waiting for a compilation or inference in an OpenVINO thread."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()
    os._exit(code)
