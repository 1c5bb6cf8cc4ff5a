"""All faults of a data set's tables in one report."""

from pathlib import Path

from elite_pipeline.errors import InputError

SHOWN = 5
"""The maximum number of faults of one kind that an error lists."""


class Faults:
    """The faults that are found, by kind."""

    def __init__(self) -> None:
        self._kinds: dict[str, list[str]] = {}

    def add(self, kind: str, message: str) -> None:
        """kind: what is counted where faults are too many to list all."""
        self._kinds.setdefault(kind, []).append(message)

    def __bool__(self) -> bool:
        return bool(self._kinds)

    def error(self, place: Path) -> InputError:
        """Returns the error that lists all faults. place: what has them."""
        count, lines = sum(map(len, self._kinds.values())), []
        for kind, messages in self._kinds.items():
            lines += messages[:SHOWN]
            if len(messages) > SHOWN:
                lines.append(f"and {len(messages) - SHOWN} more: {kind}")
        listed = "\n".join(f"  {line}" for line in lines)
        return InputError(f"{place} has {count} fault{'s' * (count > 1)} in its tables:\n{listed}")
