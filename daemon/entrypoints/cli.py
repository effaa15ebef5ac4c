"""The command ``easeld``: one small module for each group of commands, brought together here."""

from __future__ import annotations

import os
import sys
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from daemon.core.errors import BlobsUnavailable, DocumentTooLarge, Rejected, StoreUnavailable, WrongSettings
from daemon.entrypoints import adopt, catalogue, collect, doctor, jobs, operate, serve, submit
from daemon.entrypoints.opening import NoSuchJob
from daemon.entrypoints.present import plain
from daemon.entrypoints.shim import command as shim_command
from daemon.settings import CONFIG
from daemon.shutdown import EXIT_SETTINGS

EXIT_FAILED = 1  # it did not work this time: the store is away, say
EXIT_USAGE = 2  # it cannot work like this; what click uses, too

app = typer.Typer(
    name="easeld",
    no_args_is_help=True,
    rich_markup_mode=None,  # plain help reads the same in a pipe, and starts faster
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _examples(*lines: str) -> str:
    """The end of a command's help; click leaves a paragraph alone that begins with a backspace."""
    return "\n".join(("\b", "Examples:", *(f"  {line}" for line in lines)))


app.command(epilog=_examples("easeld up", "easeld up --data ./easel"))(serve.up)
app.command(
    epilog=_examples("EASELD_STORE=firestore EASELD_BUCKET=my-project.firebasestorage.app easeld worker"),
)(serve.worker)
app.command(
    epilog=_examples("EASELD_STORE=firestore EASELD_SHIM_KEYS=a-long-secret easeld shim --host 0.0.0.0"),
)(shim_command.shim)
app.command(
    epilog=_examples(
        'easeld submit "a red circle on a blue background" --wait',
        'easeld submit "two green squares" --width 256 --height 256 --images 2 --seed 7',
        'easeld submit "a star moving right" --video --wait --json | jq -r .video_url',
    ),
)(submit.submit)
app.command(
    epilog=_examples(
        "easeld jobs --status queued --status processing",
        "easeld jobs --user alice --json | jq .document.status",
        "easeld jobs --follow",
    ),
)(jobs.jobs)
app.command(epilog=_examples("easeld show alice/4f2a", "easeld show alice/images/4f2a --json"))(jobs.show)
app.command(epilog=_examples("easeld cancel alice/4f2a"))(operate.cancel)
app.command(epilog=_examples("easeld retry alice/4f2a"))(operate.retry)
app.command(epilog=_examples("easeld adopt", "easeld adopt --queue --older-than 1h"))(adopt.adopt)
app.command(epilog=_examples("easeld gc --dry-run", "easeld gc"))(collect.gc)
app.command(epilog=_examples("easeld doctor", "easeld doctor --json | jq '.[] | select(.state != \"ok\")'"))(
    doctor.doctor
)
app.add_typer(
    catalogue.app,
    name="models",
    epilog=_examples(
        "easeld models", "EASELD_MODELS=sdxl,wan-2.1-1.3b easeld models --json", "easeld models pull sdxl"
    ),
)


def _print_version(wanted: bool) -> None:
    if wanted:
        version()
        raise typer.Exit


@app.callback()
def easeld(
    config: Annotated[
        Path | None, typer.Option(help="TOML file of settings; the environment (EASELD_*) goes before it.")
    ] = None,
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """The easel daemon: makes the images and videos that documents ask for.

    Try it on this machine, in two terminals:

      easeld up

      easeld submit "a red circle on a blue background" --wait
    """
    if config is not None:
        os.environ[CONFIG] = str(config)


@app.command()
def version() -> None:
    """Print the version."""
    print(version_of("easeld"))


def main() -> None:
    """Run the command line. What a person can mend is one line on standard error, never a traceback."""
    try:
        app()
    except WrongSettings as exc:
        _fail(f"wrong setting: {exc}", EXIT_SETTINGS)
    except Rejected as exc:
        _fail(str(exc), EXIT_USAGE)
    except (StoreUnavailable, BlobsUnavailable, DocumentTooLarge, NoSuchJob) as exc:
        _fail(str(exc), EXIT_FAILED)


def _fail(message: str, status: int) -> NoReturn:
    print(f"easeld: {plain(message)}", file=sys.stderr)
    sys.exit(status)


if __name__ == "__main__":
    main()
