"""Errors that users can correct. The message names the file, the fault and the remedy."""

import sys
from collections.abc import Callable
from typing import TypeVar

from elite_pipeline.compiler import leave_out_compiler
from elite_pipeline.memory import keep_freed_memory

Result = TypeVar("Result")


class InputError(Exception):
    """Bad input. Users see only the message, without a traceback."""


def run(main: Callable[[], Result]) -> Result:
    """Return what `main()` returns. An `InputError` is printed to stderr as one message, with exit status 1."""
    leave_out_compiler()
    keep_freed_memory()
    try:
        return main()
    except InputError as error:
        sys.exit(f"error: {error}")
