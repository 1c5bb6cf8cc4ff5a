"""Progress bars on a terminal, a line every few seconds in a log."""

import sys
from typing import Any

from tqdm import tqdm


class _Lines:
    """A stream for tqdm that writes one line per refresh instead of redrawing one."""

    def write(self, text):
        text = text.strip("\r\n ")
        if text:
            sys.stderr.write(text + "\n")

    def flush(self):
        sys.stderr.flush()


def progress(iterable=None, *, label, total=None, unit="frame", initial=0) -> Any:
    """A `tqdm` over `iterable` (or a manual one with `total`), readable both live and in a log file."""
    if sys.stderr.isatty():
        return tqdm(iterable, desc=label, total=total, unit=unit, initial=initial)
    return tqdm(
        iterable,
        desc=label,
        total=total,
        unit=unit,
        initial=initial,
        file=_Lines(),  # pyright: ignore[reportArgumentType]
        mininterval=10,
        miniters=1,
        ncols=80,
        ascii=" .",
        bar_format="{desc}: {n_fmt}/{total_fmt} {unit}s, {elapsed} elapsed, {remaining} left, {rate_fmt}{postfix}",
    )
