"""Progress bars on a terminal, a line every few seconds in a log."""

import sys
from collections.abc import Iterable
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")


class _Lines:
    """A stream for tqdm that writes one line per refresh instead of redrawing one."""

    def write(self, text: str) -> None:
        text = text.strip("\r\n ")
        if text:
            sys.stderr.write(text + "\n")

    def flush(self) -> None:
        sys.stderr.flush()


def progress(
    iterable: Iterable[Item] | None = None,
    *,
    label: str,
    total: int | None = None,
    unit: str = "frame",
    initial: int = 0,
) -> "tqdm[Item]":
    """A `tqdm` over `iterable` (or a manual one with `total`), readable both live and in a log file."""
    if sys.stderr.isatty():
        return tqdm(iterable, desc=label, total=total, unit=unit, initial=initial)  # pyright: ignore[reportReturnType]
    return tqdm(  # pyright: ignore[reportReturnType]
        iterable,
        desc=label,
        total=total,
        unit=unit,
        initial=initial,
        file=_Lines(),
        mininterval=10,
        miniters=1,
        ncols=80,
        ascii=" .",
        bar_format="{desc}: {n_fmt}/{total_fmt} {unit}s, {elapsed} elapsed, {remaining} left, {rate_fmt}{postfix}",
    )
