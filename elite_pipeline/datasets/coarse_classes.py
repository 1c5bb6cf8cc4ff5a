"""Coarse classes that two class tables have in common, so that a student of one can be scored on drives of the other.

A table of coarse classes is a YAML file such as `classes/semantickitti_to_nuscenes.yaml`, which explains its keys.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from elite_pipeline.datasets.classes import FOLDER, IGNORE, TRANSLATION, ClassTable, class_table
from elite_pipeline.errors import InputError


@dataclass(frozen=True)
class CoarseClasses:
    """Coarse classes, and those of two class tables that each of them joins."""

    name: str
    """Name of a packaged file, or path of the file."""
    classes: ClassTable
    """The coarse classes. An absent one counts as zero: these scores are of no official protocol."""
    members: tuple[tuple[ClassTable, np.ndarray], ...]
    """The two class tables, each with (K,) uint8: training id -> coarse id, `IGNORE` for a class that is left out."""

    def of(self, table: ClassTable, owner: object) -> np.ndarray:
        """Returns (K,) uint8: training id in `table` -> coarse id.

        owner: of `table`, for the error message. Raises `InputError` where it is none of the two tables.
        """
        for known, coarse in self.members:
            if known.names == table.names:
                return coarse
        names = " and ".join(known.name for known, _ in self.members)
        raise InputError(
            f"{owner} has the class table {table.name}, but the coarse classes of {self.name} are for {names}."
            " Write a table of coarse classes for it, in the same form."
        )

    def known(self, table: ClassTable, names: list[str], owner: object) -> list[str]:
        """Returns the coarse classes that have a class of `names`, which are classes in `table`. owner: as in `of`."""
        ids = set(self.of(table, owner)[table.known(names)].tolist()) - {IGNORE}
        return [coarse for k, coarse in enumerate(self.classes.names) if k in ids]


def coarse_classes(name: str) -> CoarseClasses:
    """Returns the coarse classes `name`: a file in the folder of the packaged tables, or the path of a YAML file.

    Raises `InputError` with the file, the key and the remedy where the file is missing or wrong.
    """
    packaged = FOLDER / f"{name}.yaml"
    path = packaged if TRANSLATION in name and packaged.exists() else Path(name)
    try:
        content = yaml.safe_load(path.read_text())
    except OSError as error:
        have = ", ".join(sorted(found.stem for found in FOLDER.glob(f"*{TRANSLATION}*.yaml")))
        raise InputError(
            f"{path}: there is no such table of coarse classes ({error.strerror}). Use one of {have}, or the path of a"
            " YAML file in the same form."
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: is not valid YAML ({reason}). Correct it.") from None
    return _coarse(name, content, path)


def _coarse(name: str, content: Any, path: Path) -> CoarseClasses:
    if not isinstance(content, dict) or content.keys() != {"tables", "classes", "left_out"}:
        raise InputError(f"{path}: needs the keys tables, classes and left_out, as {FOLDER.name}/*{TRANSLATION}*.yaml")
    tables, coarse = content["tables"], content["classes"]
    if not isinstance(tables, list) or len(tables) != 2 or not all(isinstance(table, str) for table in tables):
        raise InputError(f"{path}: tables: {tables!r} are not the names of two class tables")
    if not isinstance(coarse, dict) or not coarse:
        raise InputError(f"{path}: classes: {coarse!r} is not a mapping of coarse classes")
    groups = {"left_out": content["left_out"], **{f"classes: {key}": pair for key, pair in coarse.items()}}
    for key, pair in groups.items():
        if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(names, list) for names in pair):
            raise InputError(f"{path}: {key}: {pair!r} is not a list of two lists, the classes of each table")
    members = []
    for side, table in enumerate(map(class_table, tables)):
        listed = [(one, number) for number, pair in enumerate(groups.values()) for one in pair[side]]
        names = [one for one, _ in listed]
        for one in [*table.evaluated, *names]:
            if names.count(one) != 1 or one not in table.evaluated:
                raise InputError(
                    f"{path}: {table.name}: {one!r} is listed {names.count(one)} times; each of its classes must be"
                    f" once in classes or left_out. They are {', '.join(table.evaluated)}"
                )
        coarse_of = np.full(len(table), IGNORE, np.uint8)
        coarse_of[[table.names.index(one) for one in names]] = [number for _, number in listed]
        members.append((table, coarse_of))
    second, count = members[1][0], len(coarse) + 1
    looks = [second.names.index((pair[1] or [second.names[IGNORE]])[0]) for pair in coarse.values()]
    classes = ClassTable(
        name=name,
        names=(second.names[IGNORE], *map(str, coarse)),
        raw_ids=tuple(range(count)),
        training_ids={k: k for k in range(count)},
        colours=tuple(second.colours[k] for k in (IGNORE, *looks)),
        things=(),
    )
    return CoarseClasses(name, classes, tuple(members))
