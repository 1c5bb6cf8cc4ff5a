"""The YAML files of a configuration: a key that stands twice is refused, and two files make one configuration."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from elite_pipeline.errors import InputError

COMPARISONS = Path("config/comparisons.yaml")
"""Entries that only comparisons need, in the checkout."""


def load(path: Path) -> Any:
    """What a YAML file holds.

    Raises `InputError` where it cannot be read, is no YAML, or has a key twice, of which YAML takes the last.
    """
    import yaml

    class Strict(yaml.SafeLoader):
        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
            lines: dict[Any, int] = {}
            for key, _ in node.value:
                if not isinstance(key, yaml.ScalarNode):
                    continue
                line = key.start_mark.line + 1
                if (first := lines.setdefault((key.tag, key.value), line)) != line:
                    raise InputError(
                        f"{path}: key {key.value!r} stands in line {first} and again in line {line}, of which only the"
                        " last would count. Write both as one"
                    )
            return super().construct_mapping(node, deep)

    try:
        return yaml.load(path.read_text(), Strict)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except yaml.YAMLError as error:
        raise InputError(f"{path}: is no YAML: {error}") from None


def completed(values: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """`values`, and those entries of the sections of `more` whose names it lacks.

    An entry of `values` stands alone: nothing is added to it from one of the same name, which may mean something else.
    """
    whole = dict(values)
    for section, entries in more.items():
        found = values.get(section) or {}
        if isinstance(found, dict):
            whole[section] = found | {name: entry for name, entry in entries.items() if name not in found}
    return whole
