"""Faults that a person can mend: their message names the file, what is wrong with it and what to do."""

import sys
from collections.abc import Callable

from elite_pipeline.compiler import leave_out_compiler


class InputError(Exception):
    """Bad input. Shown as its message alone, without a traceback."""


def run(main: Callable[[], None]) -> None:
    """Run a stage's `main()`; an `InputError` becomes one message on stderr and exit status 1."""
    leave_out_compiler()
    try:
        main()
    except InputError as error:
        sys.exit(f"error: {error}")
