"""Variants: an entry with `of: <name>` takes the settings of entry <name> and states only the differences."""

from collections.abc import Mapping, Sequence
from typing import Any

from elite_pipeline.config.data import OF_PLACES, Dataset
from elite_pipeline.config.teacher import Peft

SECTIONS = ("teachers", "students", "pretrainings")
"""Sections in which variants are merged with their origin key by key. Data sets differ: see `whole_datasets`."""

ALTERNATIVES = {"epochs", "steps"}
"""Keys that exclude each other. A variant that states one of them drops the other one of its origin."""


def spelt_out(values: Any) -> Any:
    """Returns the configuration (as YAML gives it) with every variant completed. Other values stay as they are.

    Raises `ValueError` with the full key path where `of` does not name a possible origin.
    """
    if not isinstance(values, dict):
        return values
    whole = {name: whole_entries(name, values[name]) for name in SECTIONS if isinstance(values.get(name), dict)}
    if isinstance(values.get("datasets"), dict):
        whole["datasets"] = with_places(values, whole_datasets(values["datasets"]))
    return values | whole


def with_places(values: Mapping[str, Any], datasets: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the data sets; where one changes keys of a section in `OF_PLACES`, the section's other keys are added."""
    whole: dict[str, Any] = {}
    for name, dataset in datasets.items():
        changed = {section for section in OF_PLACES if isinstance(dataset, dict) and dataset.get(section)}
        own = {section: _merged(values.get(section) or {}, dataset[section]) for section in changed}
        whole[name] = dataset | own if own else dataset
    return whole


def whole_entries(section: str, entries: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the entries of a section of `SECTIONS` with variants merged with their origins, and without `of`.

    Raises `ValueError` where `of` names no other entry, or closes a circle.
    """
    return {name: _whole_entry(section, entries, [name]) for name in entries}


def whole_datasets(datasets: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the data sets with variants completed: a variant takes all keys of its origin that it does not state.

    A variant keeps its `of`, because it shares the files of its origin.
    Raises `ValueError` where `of` names no other data set, or names a variant, or where a variant sets a key that it
    may not set.
    """
    whole: dict[str, Any] = {}
    for name, dataset in datasets.items():
        if isinstance(dataset, dict) and dataset.get("of") is not None:
            origin = datasets[_origin("datasets", datasets, name)]
            if origin.get("of") is not None:
                raise ValueError(
                    f"datasets.{name}.of is {dataset['of']!r}, which is itself a variant of {origin['of']!r}. Name the"
                    " data set that has the files, which has no of:"
                )
            stated = {key for key, value in dataset.items() if value != origin.get(key)}
            if strange := sorted(stated - Dataset.VARIANT):
                raise ValueError(
                    f"datasets.{name} is a variant of {dataset['of']} and shares its files, so it cannot set {strange}."
                    " Remove these keys, or write a separate data set, without of:"
                )
            dataset = origin | dataset
        whole[name] = dataset
    return whole


def _whole_entry(section: str, entries: Mapping[str, Any], chain: Sequence[str]) -> Any:
    """Returns the last entry of `chain`, completed. chain: names; each one is a variant of the next.

    Raises `ValueError` where `of` names no other entry, or an entry in the chain.
    """
    entry = entries[chain[-1]]
    if not isinstance(entry, dict) or "of" not in entry:
        return entry
    origin = _origin(section, entries, chain[-1])
    if origin in chain:
        circle = " of ".join([*chain, origin])
        raise ValueError(
            f"{section}.{chain[-1]}.of closes a circle: {circle}. Write out one of them in full, without of:"
        )
    changes = {key: value for key, value in entry.items() if key != "of"}
    return _merged(_whole_entry(section, entries, [*chain, origin]), changes)


def _origin(section: str, entries: Mapping[str, Any], name: str) -> str:
    """Returns the name in `of`. Raises `ValueError` where no other entry has it."""
    origin = entries[name]["of"]
    known = [other for other, entry in entries.items() if isinstance(entry, dict) and other != name]
    if not isinstance(origin, str) or origin not in known:
        if origin == name:
            raise ValueError(f"{section}.{name}.of names itself; choose another one of {', '.join(sorted(known))}")
        raise ValueError(
            f"{section}.{name}.of is {origin!r}; choose one of {', '.join(sorted(known)) or '(no other entry)'}"
        )
    return origin


def _merged(origin: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Returns `origin` with `changes`, key by key, without the keys of `origin` that the changes make unused."""
    merged = _still_read(origin, changes)
    for key, value in changes.items():
        below = merged.get(key)
        merged[key] = _merged(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged


def _still_read(origin: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a copy of `origin` without the keys that nothing reads any more after `changes`."""
    gone: set[str] = set()
    if stated := ALTERNATIVES & {key for key, value in changes.items() if value is not None}:
        gone |= ALTERNATIVES - stated
    if isinstance(method := changes.get("method"), str):
        gone |= Peft.KEYS - Peft.READS.get(method, Peft.KEYS)
    tuning = changes.get("tune_teacher")
    if isinstance(tuning, dict) and tuning.get("steps") == 0:
        gone |= {"upscaler", "peft", "tune_teacher"}
    return {key: value for key, value in origin.items() if key not in gone}
