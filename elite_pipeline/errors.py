"""Errors that users can correct. The message names the file, the fault and the remedy."""

import sys
from collections.abc import Callable


class InputError(Exception):
    """Bad input. Users see only the message, without a traceback."""


def run(main: Callable[[], None]) -> None:
    """Run a stage's `main()`. An `InputError` is printed to stderr as one message, with exit status 1."""
    try:
        main()
    except InputError as error:
        sys.exit(f"error: {error}")
