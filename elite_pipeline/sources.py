"""Which files a stage's result follows from: what its module imports, followed through the package.

Imports inside functions count. `PLUMBING` does not: it changes what is shown or refused, and no result. Of what the
configuration chooses (`choices.py`) only the chosen module counts. Imported by the Snakefile, so it runs nothing.
"""

import ast
import zlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from elite_pipeline.choices import TABLES

PACKAGE = Path(__file__).parent
PLUMBING = {
    *("choices", "sources", "errors", "progress", "provenance", "results", "marker", "system", "checkpoints"),
    *("config", "stages"),
}
"""Modules and folders at the package's root that are not followed. Settings count by their values: they are params."""


def closure(modules: Iterable[str]) -> tuple[set[Path], set[str]]:
    """(files, tables) behind `modules`, such as "training.loop": what they import, and what that imports.

    Files are absolute. Tables are those of `choices` from which one of the files picks a module when it runs.
    """
    files, tables, waiting = set(), set(), [PACKAGE.joinpath(*module.split(".")) for module in modules]
    while waiting:
        place = waiting.pop()
        file = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
        if file in files:
            continue
        imported, chosen_from = _imports(file)
        files.add(file)
        tables |= chosen_from
        waiting += imported
    return files, tables


def sources(stage: str, chosen: Iterable[str] = ()) -> list[Path]:
    """The files of stage `stage`, sorted. chosen: names of the formats, encoders and students that it picks."""
    files, tables = closure([f"stages.{stage}"])
    chosen = set(chosen)
    while picked := {place for t in tables for name, place in TABLES[t].items() if name in chosen}:
        more, more_tables = closure(place.split(":")[0].removeprefix("elite_pipeline.") for place in picked)
        if more <= files:
            break
        files, tables = files | more, tables | more_tables
    return sorted(files)


def digest(stage: str) -> str:
    """crc32 (8 hex digits) of the files of a stage, with all that its configuration might pick."""
    checksum = 0
    for file in sources(stage, (name for table in TABLES.values() for name in table)):
        checksum = zlib.crc32(file.read_bytes(), checksum)
    return f"{checksum:08x}"


@cache
def _imports(file: Path) -> tuple[list[Path], set[str]]:
    """Places (without suffix) of what `file` imports of the package, and the tables of `choices` that it imports."""
    places, tables = [], set()
    for node in ast.walk(ast.parse(file.read_text())):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module:
            if node.module == "elite_pipeline.choices":
                tables |= {alias.name for alias in node.names} & set(TABLES)
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        for package, *parts in (name.split(".") for name in names):
            if package == PACKAGE.name and parts and parts[0] not in PLUMBING:
                # The folders on the way run too, where their __init__.py does anything.
                places += [PACKAGE.joinpath(*parts[: k + 1]) for k in range(len(parts))]
    return [place for place in places if _runs(place)], tables


def _runs(place: Path) -> bool:
    init = place / "__init__.py"
    return init.stat().st_size > 0 if init.exists() else place.with_suffix(".py").exists()
