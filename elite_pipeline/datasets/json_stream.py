"""Reads large JSON arrays one object at a time: tables of a gigabyte in the memory of a few megabytes."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from elite_pipeline.errors import InputError
from elite_pipeline.progress import progress

CHUNK = 1 << 20
"""Characters that are read at once."""

LONGEST = 1 << 24
"""Characters that one object may have. Beyond them, a damaged object is not waited for until the end of the file."""

LARGE = 1 << 26
"""Bytes from which on a file has a progress bar: about half a second of reading."""

SPACE = " \t\r\n"


def stream(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the objects of the JSON array in the file `path`, in any layout: indented, in lines, or on one line.

    Raises `InputError` where the file is missing, truncated, or no JSON array of objects. Objects before the fault were
    yielded by then.
    """
    number = 0
    try:
        with path.open(encoding="utf-8") as file:
            for value in _objects(file, path):
                yield value
                number += 1
    except OSError as error:
        raise InputError(f"{path}: is missing or unreadable ({error.strerror}). Copy the table again.") from None
    except ValueError as error:  # also what json and the decoder of UTF-8 raise
        raise InputError(
            f"{path}: is truncated or no JSON array of objects (after {number} records: {error}). Copy the table again."
        ) from None


def _objects(file: TextIO, path: Path) -> Iterator[dict[str, Any]]:
    """Yield the objects of the array. Raises `ValueError` for other content."""
    size, label = path.stat().st_size, f"read {path.parent.name}/{path.name}"
    bar = progress(label=label, total=size >> 20, unit="megabyte") if size > LARGE else None
    decode = json.JSONDecoder().raw_decode
    text = file.read(CHUNK).lstrip(SPACE)
    if text[:1] != "[":
        raise ValueError(f"it begins with {text[:20]!r}")
    text = text[1:].lstrip(SPACE)
    ended = text[:1] == "]"
    at = int(ended)
    while not ended:
        # One step: an object, and the comma or the bracket after it. If the text ends within it, it is read on.
        try:
            if text[at] != "{":
                raise ValueError(f"found {text[at : at + 20]!r} in place of an object")
            value, end = decode(text, at)
            while text[end] in SPACE:
                end += 1
            ended = text[end] == "]"
            if not ended and text[end] != ",":
                raise ValueError(f"found {text[end : end + 20]!r} after an object")
            end += 1
            while not ended and text[end] in SPACE:
                end += 1
        except (json.JSONDecodeError, IndexError) as error:
            reason = error.msg if isinstance(error, json.JSONDecodeError) else "no more text"
            if len(text) - at > LONGEST:
                raise ValueError(f"an object is damaged: {reason}") from None
            more = file.read(CHUNK)
            if not more:
                raise ValueError(f"it ends within an object, or before the closing bracket: {reason}") from None
            text, at = (text[at:] + more).lstrip(SPACE), 0
            if bar is not None:
                bar.update(1)
            continue
        yield value
        at = end
    if (text[at:] + file.read(CHUNK)).strip(SPACE):
        raise ValueError("it goes on after the closing bracket")
    if bar is not None:
        bar.close()
