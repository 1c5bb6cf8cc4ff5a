"""Settings as models, as nested dicts and as `dotted.key=json` words. Errors name the full path of each fault."""

import json
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from elite_pipeline.datasets import NAME
from elite_pipeline.errors import InputError

Model = TypeVar("Model", bound="Section")


class Section(BaseModel):
    """A part of the configuration. It is immutable and refuses unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @classmethod
    def spelt_out(cls, values: Any) -> Any:
        """Returns `values` with short forms written out, where the model itself does not know them.

        Raises `ValueError` where a short form is wrong.
        """
        return values


def validate(model: type[Model], values: Any, source: str) -> Model:
    """Returns `values` as a `model`.

    Raises `InputError` where they do not fit it. The error lists every fault as `source: full.path: fault`.
    """
    try:
        values = model.spelt_out(values)
        return model.model_validate(values)
    except ValidationError as error:
        # A fault across sections has no path here; its message names the paths.
        faults = [": ".join(filter(None, (source, _path(values, e), _advice(model, e)))) for e in error.errors()]
        raise InputError("\n".join(faults)) from None
    except ValueError as error:
        raise InputError(f"{source}: {error}") from None


def flatten(node: Any, path: tuple[str, ...] = ()) -> list[str]:
    """Returns `node` as sorted `dotted.key=json` strings, which do not depend on the order of keys.

    Rules declare their params in this form.
    """
    if isinstance(node, dict):
        return [item for key in sorted(node) for item in flatten(node[key], (*path, key))]
    return [f"{'.'.join(path)}={json.dumps(node)}"]


def unflatten(items: Iterable[str]) -> dict[str, Any]:
    """Returns the nested dict of `dotted.key=json` items: the inverse of `flatten`. Empty items are skipped.

    Raises `InputError` where an item has another form.
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
    """Returns the dotted path as the user wrote it, without the names that pydantic adds for kinds of a section."""
    node, path = values, []
    for part in error["loc"]:
        stands_for_missing = error["type"] == "missing" and part == error["loc"][-1]
        if isinstance(node, dict) and part not in node and not stands_for_missing:
            continue
        node = node.get(part) if isinstance(node, dict) else None
        path.append(str(part))
    return ".".join(path)


def _advice(model: type[BaseModel], error: ErrorDetails) -> str:
    """Returns the fault in words that say what to write instead."""
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "extra_forbidden":
        siblings = _keys_at(model, error["loc"][:-1])
        return f"unknown key; the keys here are {', '.join(siblings)}" if siblings else "unknown key"
    if error["type"] == "missing":
        return "this key is missing"
    if error["type"] == "string_pattern_mismatch" and error.get("ctx", {}).get("pattern") == rf"^{NAME}$":
        return (
            f"{error['input']!r} is not a valid name; use letters, digits, '.', '_' and '-', and start with a letter"
            " or a digit"
        )
    if error["type"] == "string_type" and {"train", "val", "test"} & set(error["loc"]):
        found = error["input"]
        quoted = f"{found:02d}" if type(found) is int else "08"
        return f'{found!r} is not a valid name; write the name of the sequence in quotes, for example "{quoted}"'
    if error["type"] in ("float_type", "int_type") and isinstance(error["input"], str):
        return f"{error['input']!r} is text, not a number (with an exponent, YAML needs a point and a sign: 1.0e-3)"
    if error["type"] == "value_error" or isinstance(error["input"], dict):
        return message  # our own message, which names the value
    return f"{message}; it is {error['input']!r}"


def _keys_at(model: object, path: Sequence[int | str]) -> list[str]:
    """Returns the field names of the sub-model at `path`; empty where there is no model."""
    for part in path:
        fields = getattr(model, "model_fields", {})
        annotation = fields[part].annotation if part in fields else model
        # dict[Name, Section] -> Section; Section | None -> Section; a model stays as it is.
        model = next((a for a in get_args(annotation) if hasattr(a, "model_fields")), annotation)
    return sorted(getattr(model, "model_fields", ()))
