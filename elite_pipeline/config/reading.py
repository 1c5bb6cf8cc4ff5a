"""Reads the YAML files of a configuration and combines them. Duplicate keys are refused."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from elite_pipeline.errors import InputError

COMPARISONS = Path("config/comparisons.yaml")
"""The file of the entries that only comparisons need; a path in the checkout."""


def load(path: Path) -> Any:
    """Returns the content of a YAML file.

    Raises `InputError` where the file cannot be read, is not YAML, or has a duplicate key (YAML itself would use the
    last one).
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
                        f"{path}: key {key.value!r} is in line {first} and again in line {line}. Only the last one"
                        " would count. Merge them into one"
                    )
            return super().construct_mapping(node, deep)

    try:
        return yaml.load(path.read_text(), Strict)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except yaml.YAMLError as error:
        raise InputError(f"{path}: is not valid YAML: {error}") from None


def completed(values: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """Returns `values` with the entries of `more` that it lacks, section by section.

    An entry of `values` is kept as it is. It is not merged with an entry of the same name in `more`, which may mean
    something else.
    """
    whole = dict(values)
    for section, entries in more.items():
        found = values.get(section) or {}
        if isinstance(found, dict):
            whole[section] = found | {name: entry for name, entry in entries.items() if name not in found}
    return whole
