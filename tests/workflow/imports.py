"""Prints the imports of each file of the package as JSON: {file: [files of the package, tables of `choices`]}.

It runs all imports, also those in functions, and watches them. That checks `sources.py`, which only reads the code.
"""

import ast
import builtins
import importlib
import json
import sys
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[2]
PACKAGE = "elite_pipeline"

imported = {}
"""Module -> the modules of the package that it imported while being watched."""
python_import = builtins.__import__


def watched_import(name, namespace=None, local=None, attributes=(), level=0):
    """`__import__` that records each import: the module, its parent packages, and modules imported from it by name."""
    result = python_import(name, namespace, local, attributes, level)
    if name.partition(".")[0] == PACKAGE and namespace:
        parts = name.split(".")
        found = [".".join(parts[: k + 1]) for k in range(len(parts))]
        values = [getattr(sys.modules[name], attribute, None) for attribute in attributes or ()]
        found += [value.__name__ for value in values if isinstance(value, ModuleType)]
        of_package = {module for module in found if module.partition(".")[0] == PACKAGE}
        imported.setdefault(namespace["__name__"], set()).update(of_package)
    return result


def run_inner_imports(source, namespace):
    """Execute the imports of the package in a module's functions, and bind them in `namespace`."""
    functions = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef)]
    for node in (node for function in functions for node in ast.walk(function)):
        if isinstance(node, ast.Import | ast.ImportFrom) and PACKAGE in ast.unparse(node):
            exec(ast.unparse(node), namespace)


def relative(module):
    return str(Path(sys.modules[module].__file__).relative_to(ROOT))


def main():
    sys.path.insert(0, str(ROOT))
    builtins.__import__ = watched_import
    choices = vars(importlib.import_module(f"{PACKAGE}.choices"))
    result = {}
    for file in sorted(ROOT.glob(f"{PACKAGE}/**/*.py")):
        name = ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        namespace = dict(vars(importlib.import_module(name)))
        run_inner_imports(file.read_text(), namespace)
        held = [table for table in choices["TABLES"] if any(value is choices[table] for value in namespace.values())]
        result[str(file.relative_to(ROOT))] = [sorted(map(relative, imported.get(name, ()))), held]
    print(json.dumps(result))


if __name__ == "__main__":
    main()
