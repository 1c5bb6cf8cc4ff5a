"""Finds the source files that determine a stage's result: its module and the imports of it, through the package.

Imports inside functions count. Imports for type checkers do not. `PLUMBING` is not followed: it changes messages and
checks, but no result. Of the modules that the configuration can choose (`choices.py`), only the chosen ones count.
The Snakefile imports this module, so it runs no other code of the package.

    python -m elite_pipeline.sources [folder of the package]

prints the shape of the whole import graph.
"""

import ast
import sys
import zlib
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

from elite_pipeline.choices import TABLES

PACKAGE = Path(__file__).parent
PLUMBING = {
    *("choices", "sources", "errors", "progress", "provenance", "results", "marker", "system", "checkpoints"),
    *("compiler", "config", "stages"),
}
"""Modules and folders at the package's root that are not followed. Settings count by value: they are params."""


def closure(modules: Iterable[str]) -> tuple[set[Path], set[str]]:
    """Returns (files, tables): what `modules` (such as "training.loop") import, directly or indirectly.

    Files are absolute paths. A table of `choices` is listed if one of the files picks a module from it at run time.
    """
    files, tables, waiting = set(), set(), [PACKAGE.joinpath(*module.split(".")) for module in modules]
    while waiting:
        file = _file(waiting.pop())
        if file in files:
            continue
        imported, chosen_from = _imports(file, PACKAGE)
        files.add(file)
        tables |= chosen_from
        for place in imported:
            parts = place.relative_to(PACKAGE).parts
            if parts[0] not in PLUMBING:
                # The __init__.py of each parent folder runs too, if it has content.
                waiting += filter(_runs, (PACKAGE.joinpath(*parts[: k + 1]) for k in range(len(parts))))
    return files, tables


def sources(stage: str, chosen: Iterable[str] = ()) -> list[Path]:
    """Returns the sorted files of stage `stage`. chosen: names of the formats, encoders and students that it picks."""
    files, tables = closure([f"stages.{stage}"])
    chosen = set(chosen)
    while picked := {place for t in tables for name, place in TABLES[t].items() if name in chosen}:
        more, more_tables = closure(place.split(":")[0].removeprefix("elite_pipeline.") for place in picked)
        if more <= files:
            break
        files, tables = files | more, tables | more_tables
    return sorted(files)


def digest(stage: str) -> str:
    """Returns the crc32 (8 hex digits) of the files of a stage, including all modules that it could pick."""
    checksum = 0
    for file in sources(stage, (name for table in TABLES.values() for name in table)):
        checksum = zlib.crc32(file.read_bytes(), checksum)
    return f"{checksum:08x}"


def graph(package: Path = PACKAGE) -> dict[Path, set[Path]]:
    """Returns every module of `package` -> the modules that it imports, including plumbing."""
    modules = [file for file in sorted(package.rglob("*.py")) if file.stat().st_size]
    return {file: {_file(place) for place in _imports(file, package)[0]} - {file} for file in modules}


def describe(package: Path = PACKAGE) -> str:
    """Returns the shape of `graph` as text: modules at the root, folders, imports between them, import cycles."""
    import numpy as np
    from scipy.sparse.csgraph import connected_components

    imports = graph(package)
    unit = {file: file.relative_to(package).parts[0] for file in imports}
    folders = {name for file, name in unit.items() if file.parent != package}
    edges = {(unit[file], unit[other]) for file, others in imports.items() for other in others} - {
        (name, name) for name in unit.values()
    }
    files = list(imports)
    joined = np.array([[other in imports[file] for other in files] for file in files])
    count, part = connected_components(joined, connection="strong")
    circles = [[files[k] for k in np.flatnonzero(part == c)] for c in range(count) if (part == c).sum() > 1]
    lines = [
        f"modules: {len(files)}",
        f"modules at the root: {len(set(unit.values()) - folders)}",
        f"folders: {len(folders)}",
        f"imports between folders and modules at the root: {len(edges)} pairs",
        f"circles of modules: {len(circles)}",
        *("  " + ", ".join(str(file.relative_to(package)) for file in circle) for circle in circles),
    ]
    return "\n".join(lines)


@cache
def _imports(file: Path, package: Path) -> tuple[list[Path], set[str]]:
    """Returns the paths (without suffix) of the modules of `package` that `file` imports, and tables of `choices`."""
    places: list[Path] = []
    tables: set[str] = set()
    for node in _executed(ast.parse(file.read_text())):
        names: list[tuple[str, ...]] = []
        if isinstance(node, ast.ImportFrom) and node.module:
            if node.module == f"{package.name}.choices":
                tables |= {alias.name for alias in node.names} & set(TABLES)
            names = [(f"{node.module}.{alias.name}", node.module) for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [(alias.name,) for alias in node.names]
        for either in names:
            # An import from a folder is one of its modules, or a name in its __init__.py.
            found = (package.joinpath(*name.split(".")[1:]) for name in either if name.split(".")[0] == package.name)
            places += list(filter(_runs, found))[:1]
    return places, tables


def _executed(tree: ast.AST) -> Iterator[ast.AST]:
    """Yields the nodes of `tree` except those below `if TYPE_CHECKING:`."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            continue
        yield node
        yield from _executed(node)


def _file(place: Path) -> Path:
    init = place / "__init__.py"
    return init if init.exists() else place.with_suffix(".py")


def _runs(place: Path) -> bool:
    file = _file(place)
    return file.exists() and file.stat().st_size > 0


if __name__ == "__main__":
    print(describe(*(Path(folder).resolve() for folder in sys.argv[1:2])))
