"""Variants: an entry that is `of:` another of its section, and states only what differs."""

from collections.abc import Mapping, Sequence
from typing import Any

from elite_pipeline.config.data import Dataset
from elite_pipeline.config.teacher import Peft

SECTIONS = ("teachers", "students", "pretrainings")
"""Sections whose variants are merged deeply with their origin. Data sets are not: see `whole_datasets`."""

ALTERNATIVES = {"epochs", "steps"}
"""Keys of which a section holds one: a variant that states one does without its origin's other."""


def spelt_out(values: Any) -> Any:
    """The configuration (as YAML gives it) with every variant made whole. Values that are no sections stay as they are.

    Raises `ValueError` with the full key path where `of` names nothing that can be an origin.
    """
    if not isinstance(values, dict):
        return values
    whole = {name: whole_entries(name, values[name]) for name in SECTIONS if isinstance(values.get(name), dict)}
    if isinstance(values.get("datasets"), dict):
        whole["datasets"] = whole_datasets(values["datasets"])
    return values | whole


def whole_entries(section: str, entries: Mapping[str, Any]) -> dict[str, Any]:
    """The entries of a section of `SECTIONS`: variants are merged deeply with their origin, and `of` is gone.

    Raises `ValueError` where `of` names no other entry, or closes a circle.
    """
    return {name: _whole_entry(section, entries, [name]) for name in entries}


def whole_datasets(datasets: Mapping[str, Any]) -> dict[str, Any]:
    """The data sets: a variant has its origin's keys where it states none, and `of`, since it shares its files.

    Raises `ValueError` where `of` names no other one, or a variant; or where a variant sets a key that it may not.
    """
    whole: dict[str, Any] = {}
    for name, dataset in datasets.items():
        if isinstance(dataset, dict) and dataset.get("of") is not None:
            origin = datasets[_origin("datasets", datasets, name)]
            if origin.get("of") is not None:
                raise ValueError(
                    f"datasets.{name}.of is {dataset['of']!r}, which is of {origin['of']!r} itself. Name a data set"
                    " that is of no other: the one that has the files"
                )
            stated = {key for key, value in dataset.items() if value != origin.get(key)}
            if strange := sorted(stated - Dataset.VARIANT):
                raise ValueError(
                    f"datasets.{name} is of {dataset['of']} and shares its files, so it cannot set {strange}. Leave"
                    " them out, or write a data set of its own, without of:"
                )
            dataset = origin | dataset
        whole[name] = dataset
    return whole


def _whole_entry(section: str, entries: Mapping[str, Any], chain: Sequence[str]) -> Any:
    """The last of `chain`, made whole; chain: names, each of which is `of` the next.

    Raises `ValueError` where `of` names no other entry, or one of the chain.
    """
    entry = entries[chain[-1]]
    if not isinstance(entry, dict) or "of" not in entry:
        return entry
    origin = _origin(section, entries, chain[-1])
    if origin in chain:
        circle = " of ".join([*chain, origin])
        raise ValueError(f"{section}.{chain[-1]}.of closes a circle: {circle}. Write one of them out, without of:")
    changes = {key: value for key, value in entry.items() if key != "of"}
    return _merged(_whole_entry(section, entries, [*chain, origin]), changes)


def _origin(section: str, entries: Mapping[str, Any], name: str) -> str:
    """The name in `of`. Raises `ValueError` where no other entry has it."""
    origin = entries[name]["of"]
    known = [other for other, entry in entries.items() if isinstance(entry, dict) and other != name]
    if not isinstance(origin, str) or origin not in known:
        if origin == name:
            raise ValueError(f"{section}.{name}.of names itself; name another one of {', '.join(sorted(known))}")
        raise ValueError(f"{section}.{name}.of is {origin!r}; name one of {', '.join(sorted(known)) or 'nothing'}")
    return origin


def _merged(origin: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`changes` over `origin`, section by section, without what of the origin has no meaning beside them."""
    merged = _still_read(origin, changes)
    for key, value in changes.items():
        below = merged.get(key)
        merged[key] = _merged(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged


def _still_read(origin: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of the keys of `origin` that something reads beside `changes`."""
    gone: set[str] = set()
    if stated := ALTERNATIVES & {key for key, value in changes.items() if value is not None}:
        gone |= ALTERNATIVES - stated
    if isinstance(method := changes.get("method"), str):
        gone |= Peft.KEYS - Peft.READS.get(method, Peft.KEYS)
    tuning = changes.get("tune_teacher")
    if isinstance(tuning, dict) and tuning.get("steps") == 0:
        gone |= {"upscaler", "peft", "tune_teacher"}
    return {key: value for key, value in origin.items() if key not in gone}
