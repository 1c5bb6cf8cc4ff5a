"""Class tables: the classes of a data set, their ids in files, and their colours.

A table is a YAML file in the form of semantic-kitti-api's `config/semantic-kitti.yaml`, with colours in BGR. The keys
`things`, `moving`, `absent` and `raw_names` are ours. The folder `classes/` has the tables that ship with the package.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from elite_pipeline.errors import InputError

IGNORE = 0
"""Training id of points and pixels that are not evaluated."""

UNKNOWN = 255
"""The value that `ClassTable.of_raw` returns for a raw id that the table lacks."""

MOST = 254
"""The largest training id. Training ids have 8 bits, and 255 is `UNKNOWN`."""

RAW_IDS = 1 << 16
"""The number of possible raw ids, which have 16 bits."""

Absent = Literal["counts as zero", "left out"]
"""How the official mean IoU treats a class with neither truth nor prediction; see `evaluation.metrics`."""

FOLDER = Path(__file__).parent / "classes"

TRANSLATION = "_to_"
"""Part of the names of files in `FOLDER` that are no class tables (`coarse_classes.py`)."""


@dataclass(frozen=True)
class ClassTable:
    """The K classes of a data set, including `IGNORE`. Training ids 0 to K - 1 identify the classes."""

    name: str
    """Name of a packaged table, or path of the table's file."""
    names: tuple[str, ...]
    """Class name by training id."""
    raw_ids: tuple[int, ...]
    """Raw id by training id: the id in files of predictions (`learning_map_inv`)."""
    training_ids: Mapping[int, int]
    """Raw id in the files -> training id (`learning_map`)."""
    colours: tuple[tuple[int, int, int], ...]
    """RGB colour by training id, 0 to 255."""
    things: tuple[int, ...]
    """Training ids of the classes of countable objects (things, as opposed to stuff)."""
    raw_names: Mapping[int, str] = field(default_factory=dict)
    """Raw id -> its name in a format whose files name the raw ids, such as nuScenes' `category.json`."""
    moving: tuple[int, ...] = ()
    """Raw ids of things that move while they are recorded, where the files distinguish them."""
    absent: Absent = "counts as zero"

    def __len__(self) -> int:
        return len(self.names)

    @property
    def evaluated(self) -> list[str]:
        """Names of the evaluated classes: all except `IGNORE`."""
        return list(self.names[IGNORE + 1 :])

    @cached_property
    def palette(self) -> np.ndarray:
        """(K, 3) uint8 RGB by training id."""
        return np.array(self.colours, dtype=np.uint8)

    @cached_property
    def _lookup(self) -> np.ndarray:
        lookup = np.full(RAW_IDS, UNKNOWN, dtype=np.uint8)
        lookup[list(self.training_ids)] = list(self.training_ids.values())
        return lookup

    def of_raw(self, raw: np.ndarray) -> np.ndarray:
        """Returns training ids (uint8, same shape) of raw semantic ids (unsigned, below 65,536).

        Raw ids that the table lacks become `UNKNOWN`.
        """
        return self._lookup[raw]

    def to_raw(self, training_ids: np.ndarray) -> np.ndarray:
        """Returns the raw ids of training ids (uint32, same shape), as files of predictions contain them."""
        return np.array(self.raw_ids, dtype="<u4")[training_ids]

    def known(self, names: Sequence[str]) -> np.ndarray:
        """Returns (K,) bool: whether each class is in `names`."""
        return np.isin(self.names, list(names))

    def to_json(self) -> dict[str, Any]:
        """Returns this table as JSON values for `from_json`. Indices, stores and models contain them."""
        return {
            "name": self.name,
            "names": list(self.names),
            "raw_ids": list(self.raw_ids),
            "training_ids": {str(raw): training for raw, training in sorted(self.training_ids.items())},
            "raw_names": {str(raw): name for raw, name in sorted(self.raw_names.items())},
            "colours": ["#{:02x}{:02x}{:02x}".format(*colour) for colour in self.colours],
            "things": list(self.things),
            "moving": list(self.moving),
            "absent": self.absent,
        }

    @classmethod
    def from_json(cls, values: Any, source: object) -> "ClassTable":
        """Returns the table of `to_json` values. Raises `InputError` with `source` where they are no class table."""
        try:
            colours = [bytes.fromhex(colour.removeprefix("#")) for colour in values["colours"]]
            return cls(
                name=str(values["name"]),
                names=tuple(map(str, values["names"])),
                raw_ids=tuple(map(int, values["raw_ids"])),
                training_ids={int(raw): int(training) for raw, training in values["training_ids"].items()},
                raw_names={int(raw): str(name) for raw, name in values.get("raw_names", {}).items()},
                colours=tuple((red, green, blue) for red, green, blue in colours),
                things=tuple(map(int, values["things"])),
                moving=tuple(map(int, values["moving"])),
                # Every table that an older version wrote counts as zero.
                absent=_absent(values.get("absent", "counts as zero")),
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"{source}: holds no class table ({error!r}). The file is damaged, or another version wrote it."
                " Make it again, or use the version that wrote it."
            ) from None

    def check_same(self, other: "ClassTable", mine: object, others: object) -> None:
        """Raise `InputError` where a training id or raw id means another class in `other`.

        Colours may differ, and `absent` too.

        mine, others: the owners of the two tables, for the error message.
        """
        if difference := self._difference(other):
            raise InputError(
                f"{mine} has the class table {self.name} and {others} has the class table {other.name}, but they"
                f" differ: {difference}. The same id would mean different classes. Give both the same `classes:` in"
                " config.yaml"
            )

    def _difference(self, other: "ClassTable") -> str | None:
        for k, pair in enumerate(zip(self.names, other.names, strict=False)):
            if pair[0] != pair[1]:
                return f"training id {k} is {pair[0]!r} in the first and {pair[1]!r} in the second"
        if len(self) != len(other):
            return f"the first has {len(self)} classes and the second {len(other)}"
        for raw in sorted(self.training_ids.keys() | other.training_ids.keys()):
            ids = [table.training_ids.get(raw) for table in (self, other)]
            if ids[0] != ids[1]:
                first, second = ("nothing" if k is None else repr(self.names[k]) for k in ids)
                return f"raw id {raw} is {first} in the first and {second} in the second"
        for k, (raw, others_raw) in enumerate(zip(self.raw_ids, other.raw_ids, strict=True)):
            if raw != others_raw:
                return f"{self.names[k]!r} is written as {raw} by the first and as {others_raw} by the second"
        return None


def packaged() -> list[str]:
    """Returns the names of the tables that ship with the package."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml") if TRANSLATION not in path.stem)


def table_path(name: str) -> Path:
    """Returns the file of the table `name`, which is one of `packaged` or the path of a YAML file."""
    return FOLDER / f"{name}.yaml" if name in packaged() else Path(name)


def class_table(name: str) -> ClassTable:
    """Returns the table `name`, which is one of `packaged` or the path of a YAML file.

    Raises `InputError` with the file, the key and the remedy where the file is missing or wrong.
    """
    path = table_path(name)
    try:
        return _read(name, path, path.stat().st_mtime_ns)
    except OSError as error:
        raise InputError(
            f"{path}: there is no such class table ({error.strerror}). Use one of {', '.join(packaged())}, or the path"
            " of a YAML file in the form of semantic-kitti-api's config/semantic-kitti.yaml."
        ) from None


@cache
def _read(name: str, path: Path, date: int) -> ClassTable:
    """Returns the table in `path`. Cached by the file's `date`, because many data sets may name one table."""
    import yaml

    try:
        content = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: is not valid YAML ({reason}). Correct it.") from None
    return _table(name, content, path)


def _table(name: str, content: Any, path: Path) -> ClassTable:
    """Returns the table of a file's YAML `content`. Raises `InputError` where the content is wrong."""
    sections = {key: _section(content, key, path) for key in ("labels", "color_map", "learning_map")}
    inverse, ignored = _section(content, "learning_map_inv", path), _section(content, "learning_ignore", path)

    def refuse(key: str, fault: str) -> InputError:
        return InputError(f"{path}: {key}: {fault}")

    count = len(inverse)
    if sorted(inverse) != list(range(count)) or not 2 <= count <= MOST + 1:
        raise refuse("learning_map_inv", f"its keys must be the training ids 0, 1, 2, ... without gaps, up to {MOST}")
    for key in ("labels", "color_map", "learning_map"):
        if strange := [raw for raw in sections[key] if not 0 <= raw < RAW_IDS]:
            raise refuse(key, f"raw id {strange[0]} does not fit into 16 bits")
    labels, training_ids = sections["labels"], sections["learning_map"]
    for key, ids in (("learning_map", training_ids), ("learning_map_inv", inverse)):
        if strange := [k for k in ids.values() if type(k) is not int]:
            raise refuse(key, f"{strange[0]!r} is not an id; ids are whole numbers")
    for raw, training in training_ids.items():
        if training not in inverse:
            raise refuse("learning_map", f"maps raw id {raw} to training id {training}, which learning_map_inv lacks")
    for training, raw in inverse.items():
        if training_ids.get(raw) != training:
            raise refuse("learning_map_inv", f"maps {training} to {raw}, but learning_map maps that to another class")
        if raw not in labels:
            raise refuse("labels", f"has no name for raw id {raw}, to which learning_map_inv maps {training}")
    if {training for training, left_out in ignored.items() if left_out} != {IGNORE}:
        raise refuse("learning_ignore", "must be true for 0 and false for all others; map ignored classes to 0")
    names = tuple(str(labels[inverse[k]]) for k in range(count))
    if twice := {label for label in names if names.count(label) > 1}:
        raise refuse("labels", f"several training ids have the name {sorted(twice)[0]!r}; names must differ")
    colours = []
    for k in range(count):
        bgr = sections["color_map"].get(inverse[k])
        if not isinstance(bgr, list) or len(bgr) != 3 or any(type(c) is not int or not 0 <= c < 256 for c in bgr):
            raise refuse("color_map", f"raw id {inverse[k]} needs [blue, green, red], 0 to 255 each, but has {bgr}")
        colours.append((bgr[2], bgr[1], bgr[0]))
    raw_names = _section(content, "raw_names", path) if content.get("raw_names") else {}
    if strange := [raw for raw in raw_names if raw not in training_ids]:
        raise refuse("raw_names", f"names raw id {strange[0]}, which learning_map lacks")
    if strange := [name for name in raw_names.values() if type(name) is not str]:
        raise refuse("raw_names", f"{strange[0]!r} is not a name")
    things = content.get("things") or []
    if not isinstance(things, list):
        raise refuse("things", f"{things!r} is not a list of classes")
    if strange := [thing for thing in things if thing not in names[1:]]:
        raise refuse("things", f"{strange[0]!r} is not a class; the classes are {', '.join(names[1:])}")
    moving = content.get("moving") or []
    if not isinstance(moving, list):
        raise refuse("moving", f"{moving!r} is not a list of raw ids")
    if strange := [raw for raw in moving if raw not in training_ids]:
        raise refuse("moving", f"{strange[0]!r} is not a raw id in learning_map")
    try:
        absent = _absent(content.get("absent", "counts as zero"))
    except ValueError as error:
        raise refuse("absent", str(error)) from None
    return ClassTable(
        name=name,
        names=names,
        raw_ids=tuple(inverse[k] for k in range(count)),
        training_ids=training_ids,
        raw_names=raw_names,
        colours=tuple(colours),
        things=tuple(names.index(thing) for thing in things),
        moving=tuple(moving),
        absent=absent,
    )


def _absent(value: Any) -> Absent:
    """Returns `value`. Raises `ValueError` where it is no `Absent`."""
    if value not in get_args(Absent):
        raise ValueError(f"{value!r} is not one of {', '.join(map(repr, get_args(Absent)))}")
    return value


def _section(content: Any, key: str, path: Path) -> dict[int, Any]:
    """Returns the mapping `key` of `content`. Raises `InputError` where it is missing or empty, or has other keys."""
    section = content.get(key) if isinstance(content, dict) else None
    if not isinstance(section, dict) or not section or any(type(k) is not int for k in section):
        raise InputError(
            f"{path}: {key}: missing, or not a mapping with ids as keys. See elite_pipeline/datasets/classes/."
        )
    return section
