"""The command line: ``python -m core``. Everything a page does, the shell does too, through the same functions.

Exit 0 done, 1 failed, 2 the user's input is at fault (message and hint on stderr).
"""

from __future__ import annotations

import importlib
import sys

import typer
from typer.exceptions import Abort, Exit, TyperException

from core.errors import SpecError, UserError

AREAS = (
    "importing",
    "data",
    "cleaning",
    "storage",
    "tokens",
    "models",
    "training",
    "evaluation",
    "jobs",
    "serving",
    "doctor",
    "whole",
)

app = typer.Typer(
    name="core",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Tunewise: is a better prompt enough, or is a fine-tune worth it, and is the data good enough for either?",
)


@app.callback()
def _root() -> None:
    """Tunewise: is a better prompt enough, or is a fine-tune worth it, and is the data good enough for either?"""


for _area in AREAS:
    importlib.import_module(f"core.cli.{_area}").register(app)


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    try:
        result = app(args=arguments, standalone_mode=False)
    except UserError as error:
        print(f"Error: {error.message}", file=sys.stderr)
        if isinstance(error, SpecError) and len(error.faults) > 1:
            for fault in error.faults:
                print(f"  - {fault}", file=sys.stderr)
        if error.hint:
            print(f"Hint: {error.hint}", file=sys.stderr)
        return 2
    except Exit as error:
        return error.exit_code
    except TyperException as error:  # an unknown command or option, a missing argument, a value out of range
        if error.format_message():  # none when the help was printed for want of arguments
            print(f"Error: {error.format_message()}", file=sys.stderr)
            print("Hint: `python -m core --help` lists the commands; each has its own --help.", file=sys.stderr)
        return 2
    except (KeyboardInterrupt, Abort):  # Abort: the same while a question is asked
        return 130
    return result if isinstance(result, int) else 0


if __name__ == "__main__":
    sys.exit(main())
