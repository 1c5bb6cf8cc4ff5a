"""Settings as models, as nested dicts and as `dotted.key=json` words; what is wrong with them, by full path."""

import json
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from elite_pipeline.datasets import NAME
from elite_pipeline.errors import InputError

Model = TypeVar("Model", bound="Section")


class Section(BaseModel):
    """A part of the configuration: immutable, no unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @classmethod
    def spelt_out(cls, values: Any) -> Any:
        """`values` without the short forms that the model itself does not know.

        Raises `ValueError` where one is wrong.
        """
        return values


def validate(model: type[Model], values: Any, source: str) -> Model:
    """`model` of `values`.

    Raises `InputError` where they do not fit it: every fault, as `source: full.path: what is wrong`.
    """
    try:
        values = model.spelt_out(values)
        return model.model_validate(values)
    except ValidationError as error:
        # What concerns several sections is of no path, and names its own.
        faults = [": ".join(filter(None, (source, _path(values, e), _advice(model, e)))) for e in error.errors()]
        raise InputError("\n".join(faults)) from None
    except ValueError as error:
        raise InputError(f"{source}: {error}") from None


def flatten(node: Any, path: tuple[str, ...] = ()) -> list[str]:
    """`node` as sorted `dotted.key=json` strings: the order-proof form in which rules declare what they read."""
    if isinstance(node, dict):
        return [item for key in sorted(node) for item in flatten(node[key], (*path, key))]
    return [f"{'.'.join(path)}={json.dumps(node)}"]


def unflatten(items: Iterable[str]) -> dict[str, Any]:
    """Inverse of `flatten`; empty items are skipped.

    Raises `InputError` where one is not `dotted.key=json`.
    """
    tree: dict[str, Any] = {}
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


def _path(values: Any, error: ErrorDetails) -> str:
    """Where the user wrote it: without the names that pydantic puts in for the kinds of a section."""
    node, path = values, []
    for part in error["loc"]:
        stands_for_missing = error["type"] == "missing" and part == error["loc"][-1]
        if isinstance(node, dict) and part not in node and not stands_for_missing:
            continue
        node = node.get(part) if isinstance(node, dict) else None
        path.append(str(part))
    return ".".join(path)


def _advice(model: type[BaseModel], error: ErrorDetails) -> str:
    """What is wrong, in words that say what to write instead."""
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "extra_forbidden":
        siblings = _keys_at(model, error["loc"][:-1])
        return f"unknown key; the keys here are {', '.join(siblings)}" if siblings else "unknown key"
    if error["type"] == "missing":
        return "this key is missing"
    if error["type"] == "string_pattern_mismatch" and error.get("ctx", {}).get("pattern") == rf"^{NAME}$":
        return f"{error['input']!r} is no name; write letters, digits, '.', '_' and '-', a letter or a digit first"
    if error["type"] == "string_type" and {"train", "val", "test"} & set(error["loc"]):
        found = error["input"]
        quoted = f"{found:02d}" if type(found) is int else "08"
        return f'{found!r} is no name; write the name of the sequence in quotes, as in "{quoted}"'
    if error["type"] in ("float_type", "int_type") and isinstance(error["input"], str):
        return f"{error['input']!r} is text and no number (YAML wants a point and a sign in it: 1.0e-3)"
    if error["type"] == "value_error" or isinstance(error["input"], dict):
        return message  # ours, which says what it is about
    return f"{message}; it is {error['input']!r}"


def _keys_at(model: object, path: Sequence[int | str]) -> list[str]:
    """Names of the fields of the sub-model at `path`, or nothing where that is no model."""
    for part in path:
        fields = getattr(model, "model_fields", {})
        annotation = fields[part].annotation if part in fields else model
        # dict[Name, Section] -> Section; Section | None -> Section; a model stays itself.
        model = next((a for a in get_args(annotation) if hasattr(a, "model_fields")), annotation)
    return sorted(getattr(model, "model_fields", ()))
