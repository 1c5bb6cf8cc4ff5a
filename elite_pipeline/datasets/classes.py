"""Class tables: which classes a data set has, how its files number them, and how they look.

A table is a YAML file in the form of semantic-kitti-api's `config/semantic-kitti.yaml`, whose colours are BGR; `things`
is ours. `classes/` holds those that ship with the package.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np

from elite_pipeline.errors import InputError

IGNORE = 0
"""Training id of what is not evaluated."""

UNKNOWN = 255
"""What `ClassTable.of_raw` gives for a raw id that the table lacks."""

MOST = 254
"""Training ids are kept in 8 bits; 255 means that there is none."""

RAW_IDS = 1 << 16
"""Raw ids are kept in 16 bits."""

FOLDER = Path(__file__).parent / "classes"


@dataclass(frozen=True)
class ClassTable:
    """The K classes of a data set, `IGNORE` among them. A class is known by its training id, 0 to K - 1."""

    name: str
    """Of the table: that of a packaged one, or the path of its file."""
    names: tuple[str, ...]
    """By training id."""
    raw_ids: tuple[int, ...]
    """By training id: the id that predictions are written as (`learning_map_inv`)."""
    training_ids: Mapping[int, int]
    """Raw id in the files -> training id (`learning_map`)."""
    colours: tuple[tuple[int, int, int], ...]
    """By training id: RGB, 0 to 255."""
    things: tuple[int, ...]
    """Training ids of the classes that come as objects."""

    def __len__(self) -> int:
        return len(self.names)

    @property
    def evaluated(self) -> list[str]:
        """Names of the classes that count: all but that of `IGNORE`."""
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
        """Training ids (uint8) of raw semantic ids (any shape, unsigned, below 65,536); `UNKNOWN` for others."""
        return self._lookup[raw]

    def to_raw(self, training_ids: np.ndarray) -> np.ndarray:
        """uint32 raw ids of training ids, of the same shape: what files of predictions hold."""
        return np.array(self.raw_ids, dtype="<u4")[training_ids]

    def known(self, names: Sequence[str]) -> np.ndarray:
        """(K,) bool: whether each class is among `names`."""
        return np.isin(self.names, list(names))

    def to_json(self) -> dict[str, Any]:
        """This table as JSON values, which `from_json` reads: what indices, stores and models carry."""
        return {
            "name": self.name,
            "names": list(self.names),
            "raw_ids": list(self.raw_ids),
            "training_ids": {str(raw): training for raw, training in sorted(self.training_ids.items())},
            "colours": ["#{:02x}{:02x}{:02x}".format(*colour) for colour in self.colours],
            "things": list(self.things),
        }

    @classmethod
    def from_json(cls, values: Any, source: object) -> "ClassTable":
        """The table that `to_json` gave. Raises `InputError` that names `source` where `values` are no such table."""
        try:
            colours = [bytes.fromhex(colour.removeprefix("#")) for colour in values["colours"]]
            return cls(
                name=str(values["name"]),
                names=tuple(map(str, values["names"])),
                raw_ids=tuple(map(int, values["raw_ids"])),
                training_ids={int(raw): int(training) for raw, training in values["training_ids"].items()},
                colours=tuple((red, green, blue) for red, green, blue in colours),
                things=tuple(map(int, values["things"])),
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"{source}: holds no class table ({error!r}). It was damaged, or written by another version: make it"
                " again, or take the version that wrote it."
            ) from None

    def check_same(self, other: "ClassTable", mine: object, others: object) -> None:
        """Raise `InputError` where a training id, or a raw one, means another class in `other`; colours may differ.

        mine, others: whose tables they are, for the error.
        """
        if difference := self._difference(other):
            raise InputError(
                f"{mine} has the class table {self.name} and {others} the class table {other.name}, which differ:"
                f" {difference}. Ids mean different classes then: give both the same `classes:` in config.yaml"
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
    """Names of the tables that ship with the package."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def table_path(name: str) -> Path:
    """The file of the table `name`: one of `packaged`, or the path of a YAML file."""
    return FOLDER / f"{name}.yaml" if name in packaged() else Path(name)


def class_table(name: str) -> ClassTable:
    """The table that `classes: <name>` means: one of `packaged`, or the path of a YAML file.

    Raises `InputError` that names the file, the key and the remedy.
    """
    path = table_path(name)
    try:
        return _read(name, path, path.stat().st_mtime_ns)
    except OSError as error:
        raise InputError(
            f"{path}: no class table there ({error.strerror}). Write one of {', '.join(packaged())}, or the path of a"
            " YAML file in the form of semantic-kitti-api's config/semantic-kitti.yaml."
        ) from None


@cache
def _read(name: str, path: Path, date: int) -> ClassTable:
    """The table in `path`, read once for each `date` of the file: twenty data sets may name one table."""
    import yaml

    try:
        content = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: no readable YAML ({reason}). Correct it.") from None
    return _table(name, content, path)


def _table(name: str, content: Any, path: Path) -> ClassTable:
    """The table that a file's YAML `content` describes. Raises `InputError` where it describes none."""
    sections = {key: _section(content, key, path) for key in ("labels", "color_map", "learning_map")}
    inverse, ignored = _section(content, "learning_map_inv", path), _section(content, "learning_ignore", path)

    def refuse(key: str, fault: str) -> InputError:
        return InputError(f"{path}: {key}: {fault}")

    count = len(inverse)
    if sorted(inverse) != list(range(count)) or not 2 <= count <= MOST + 1:
        raise refuse("learning_map_inv", f"its keys are the training ids 0, 1, 2 ... without gaps, {MOST} at most")
    for key in ("labels", "color_map", "learning_map"):
        if strange := [raw for raw in sections[key] if not 0 <= raw < RAW_IDS]:
            raise refuse(key, f"raw id {strange[0]} does not fit into 16 bits")
    labels, training_ids = sections["labels"], sections["learning_map"]
    for key, ids in (("learning_map", training_ids), ("learning_map_inv", inverse)):
        if strange := [k for k in ids.values() if type(k) is not int]:
            raise refuse(key, f"{strange[0]!r} is no id; ids are whole numbers")
    for raw, training in training_ids.items():
        if training not in inverse:
            raise refuse("learning_map", f"raw id {raw} becomes training id {training}, which learning_map_inv lacks")
    for training, raw in inverse.items():
        if training_ids.get(raw) != training:
            raise refuse("learning_map_inv", f"writes {training} as {raw}, which learning_map reads as another class")
        if raw not in labels:
            raise refuse("labels", f"has no name for raw id {raw}, as which training id {training} is written")
    if {training for training, left_out in ignored.items() if left_out} != {IGNORE}:
        raise refuse("learning_ignore", "true of 0 and false of all others; map what is not to count to 0")
    names = tuple(str(labels[inverse[k]]) for k in range(count))
    if twice := {label for label in names if names.count(label) > 1}:
        raise refuse("labels", f"several training ids are called {sorted(twice)[0]!r}")
    colours = []
    for k in range(count):
        bgr = sections["color_map"].get(inverse[k])
        if not isinstance(bgr, list) or len(bgr) != 3 or any(type(c) is not int or not 0 <= c < 256 for c in bgr):
            raise refuse("color_map", f"{inverse[k]} needs [blue, green, red], 0 to 255 each; it has {bgr}")
        colours.append((bgr[2], bgr[1], bgr[0]))
    things = content.get("things") or []
    if not isinstance(things, list):
        raise refuse("things", f"{things!r} is no list of classes")
    if strange := [thing for thing in things if thing not in names[1:]]:
        raise refuse("things", f"{strange[0]!r} is no class; those are {', '.join(names[1:])}")
    return ClassTable(
        name=name,
        names=names,
        raw_ids=tuple(inverse[k] for k in range(count)),
        training_ids=training_ids,
        colours=tuple(colours),
        things=tuple(names.index(thing) for thing in things),
    )


def _section(content: Any, key: str, path: Path) -> dict[int, Any]:
    """The mapping `key` of `content`. Raises `InputError` where it is missing, empty, or not of whole numbers."""
    section = content.get(key) if isinstance(content, dict) else None
    if not isinstance(section, dict) or not section or any(type(k) is not int for k in section):
        raise InputError(f"{path}: {key}: missing, or not a mapping of whole numbers. datasets/classes/ has examples.")
    return section
