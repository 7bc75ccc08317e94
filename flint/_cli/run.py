"""Runs a verb, and turns whatever happens into an exit code and one sentence."""

from __future__ import annotations

import os
import sys
import warnings

from flint._cli.context import Context
from flint._cli.failure import ERROR, OK, UNREACHABLE, USAGE, CommandError, UsageError
from flint._cli.output import complain
from flint._cli.parser import make_parser
from flint.errors import FlintConnectionError, FlintError, LockedError, NotConfiguredError


def run(words: list[str]) -> int:
    with warnings.catch_warnings():
        setattr(warnings, "showwarning", show_warning)  # noqa: B010 - the types of what is unused
        try:
            return answer(words)
        except BrokenPipeError:  # whoever was reading has read enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return OK


def answer(words: list[str]) -> int:
    try:
        args = make_parser().parse_args(words)
        code: int = args.run(Context(args))
        sys.stdout.flush()
        return code
    except UsageError as error:
        complain(str(error))
        return USAGE
    except CommandError as error:
        complain(str(error))
        return error.code
    except (LockedError, FlintConnectionError) as error:
        complain(str(error))
        return UNREACHABLE
    except BrokenPipeError:
        raise
    except NotConfiguredError as error:
        complain(f"{error}. `flint limit list` shows the limits that are")
        return ERROR
    except (FlintError, OSError, ValueError, TypeError) as error:
        complain(str(error))
        return ERROR


def show_warning(message: Warning | str, *_: object) -> None:
    complain(f"warning: {message}")
