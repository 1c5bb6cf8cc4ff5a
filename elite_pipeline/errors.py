"""Errors that users can correct. The message names the file, the fault and the remedy."""

import sys
from collections.abc import Callable

from elite_pipeline.compiler import leave_out_compiler


class InputError(Exception):
    """Bad input. Users see only the message, without a traceback."""


def run(main: Callable[[], None]) -> None:
    """Run a stage's `main()`. An `InputError` is printed to stderr as one message, with exit status 1."""
    leave_out_compiler()
    try:
        main()
    except InputError as error:
        sys.exit(f"error: {error}")
