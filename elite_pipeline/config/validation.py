"""Settings as models, as nested dicts and as `dotted.key=json` words; what is wrong with them, by full path."""

import json
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from elite_pipeline.errors import InputError

Model = TypeVar("Model", bound=BaseModel)


class Section(BaseModel):
    """A part of the configuration: immutable, no unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def validate(model: type[Model], values: dict, source: str) -> Model:
    """`model` of `values`, or an `InputError` that lists every fault as `source: full.path: what is wrong`."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        faults = [f"{source}: {_path(values, e) or 'whole file'}: {_advice(model, e)}" for e in error.errors()]
        raise InputError("\n".join(faults)) from None


def flatten(node: Any, path: tuple[str, ...] = ()) -> list[str]:
    """`node` as sorted `dotted.key=json` strings: the order-proof form in which rules declare what they read."""
    if isinstance(node, dict):
        return [item for key in sorted(node) for item in flatten(node[key], (*path, key))]
    return [f"{'.'.join(path)}={json.dumps(node)}"]


def unflatten(items: list[str]) -> dict:
    """Inverse of `flatten`; empty items are skipped, and one that is not `dotted.key=json` is an `InputError`."""
    tree: dict = {}
    for item in filter(None, items):
        key, separator, text = item.partition("=")
        try:
            value = json.loads(text)
        except json.JSONDecodeError:
            separator = ""
        if not separator:
            raise InputError(f"argument {item!r} is not of the form dotted.key=json, for example voxel_size=0.1")
        *parents, leaf = key.split(".")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[leaf] = value
    return tree


def _path(values, error):
    """Where the user wrote it: without the names that pydantic puts in for the kinds of a section."""
    node, path = values, []
    for part in error["loc"]:
        stands_for_missing = error["type"] == "missing" and part == error["loc"][-1]
        if isinstance(node, dict) and part not in node and not stands_for_missing:
            continue
        node = node.get(part) if isinstance(node, dict) else None
        path.append(str(part))
    return ".".join(path)


def _advice(model, error):
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "extra_forbidden":
        siblings = _keys_at(model, error["loc"][:-1])
        return f"unknown key; the keys here are {', '.join(siblings)}" if siblings else "unknown key"
    if error["type"] == "missing":
        return "this key is missing"
    if error["type"] == "string_pattern_mismatch" and error["ctx"]["pattern"] == r"^[0-9]{2}$":
        return f'{error["input"]!r} is no sequence; write two digits in quotes, as in "08"'
    if error["type"] == "string_type" and {"train", "val"} & set(error["loc"]):
        return f'{error["input"]!r} is a number; write two digits in quotes, as in "{error["input"]:02d}"'
    if error["type"] in ("float_type", "int_type") and isinstance(error["input"], str):
        return f"{error['input']!r} is text and no number (YAML wants a point and a sign in it: 1.0e-3)"
    return f"{message}; it is {error['input']!r}" if not isinstance(error["input"], dict) else message


def _keys_at(model, path):
    """Names of the fields of the sub-model at `path`, or nothing where that is no model."""
    for part in path:
        fields = getattr(model, "model_fields", {})
        annotation = fields[part].annotation if part in fields else model
        # dict[Name, Section] -> Section; Section | None -> Section; a model stays itself.
        model = next((a for a in get_args(annotation) if hasattr(a, "model_fields")), annotation)
    return sorted(getattr(model, "model_fields", ()))
