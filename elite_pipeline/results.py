"""Result files: JSON for programs, and a Markdown table for people. Written under a temporary name, then renamed."""

import json
import os
from pathlib import Path
from typing import Any


def write(path: Path, result: dict[str, Any], table: str) -> None:
    """Write `result` (JSON values) to `path`, and `table` (Markdown) to the same path with the suffix .md."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    for target, text in ((path.with_suffix(".md"), table), (path, json.dumps(result, indent=2) + "\n")):
        partial = target.with_name(target.name + ".partial")
        partial.write_text(text)
        os.replace(partial, target)
