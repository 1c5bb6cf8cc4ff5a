"""The import graph: it has no cycles, every name is used once, and imports are found correctly."""

import ast
from collections import defaultdict
from pathlib import Path

import pytest

from elite_pipeline import sources
from elite_pipeline.sources import PACKAGE, describe, graph


def names(kind):
    """Returns the name of each module or public class -> the files that define it."""
    found = defaultdict(list)
    for file in sorted(PACKAGE.rglob("*.py")):
        if kind == "class":
            for node in ast.parse(file.read_text()).body:
                if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                    found[node.name].append(file.relative_to(PACKAGE))
        elif file.stem != "__init__" and file.relative_to(PACKAGE).parts[0] not in ("stages", "figures"):
            found[file.stem].append(file.relative_to(PACKAGE))
    return found


@pytest.mark.parametrize("kind", ["module", "class"])
def test_names_are_unique(kind):
    """Except in stages/ and figures/: stages have the names of their rules, and figures the names of their subjects."""
    twice = {name: places for name, places in names(kind).items() if len(places) > 1}
    assert not twice
    assert len(names(kind)) > 80


def test_no_module_is_part_of_an_import_cycle():
    assert describe().endswith("circles of modules: 0")


def test_no_module_outside_datasets_depends_on_one_class_table():
    """Class tables are passed as arguments."""
    for file in sorted(PACKAGE.rglob("*.py")):
        if file.relative_to(PACKAGE).parts[0] in ("datasets", "simulation"):
            continue
        text = file.read_text()
        assert "datasets.semantickitti import" not in text.replace("datasets.semantickitti import BENCHMARK", ""), (
            f"{file} depends on one format"
        )
        assert 'class_table("' not in text, f"{file} depends on one class table"


@pytest.fixture
def package(tmp_path):
    """A package with an import cycle, an import inside a function, and an import only for type checkers."""
    folder = tmp_path / "somewhere"
    (folder / "part").mkdir(parents=True)
    files = {
        "__init__.py": "",
        "part/__init__.py": '"""A folder that does something."""\n',
        "part/first.py": "def run():\n    from somewhere.part import second\n",
        "part/second.py": "from somewhere.part.first import run\nimport somewhere.alone\n",
        "alone.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from somewhere.part import first\n",
    }
    for name, text in files.items():
        (folder / name).write_text(text)
    return folder


def test_what_counts_as_an_import(package):
    found = {
        str(file.relative_to(package)): {str(other.relative_to(package)) for other in others}
        for file, others in graph(package).items()
    }
    assert found == {
        "alone.py": set(),
        "part/__init__.py": set(),
        "part/first.py": {"part/second.py"},
        "part/second.py": {"part/first.py", "alone.py"},
    }


def test_describe_prints_the_shape_of_the_graph(package):
    assert describe(package).splitlines() == [
        "modules: 4",
        "modules at the root: 1",
        "folders: 1",
        "imports between folders and modules at the root: 1 pairs",
        "circles of modules: 1",
        "  part/first.py, part/second.py",
    ]


def test_the_digest_covers_every_module_that_a_stage_may_pick(monkeypatch, tmp_path):
    before, of_figure = sources.digest("train_student"), sources.digest("plot_miou")
    assert before == sources.digest("train_student")
    assert before != of_figure
    # All modules that the configuration may choose count, so that an interrupted run never resumes with other code.
    read = Path.read_bytes
    changed = PACKAGE / "student/minkunet.py"
    monkeypatch.setattr(Path, "read_bytes", lambda path: read(path) + (b"#" if path == changed else b""))
    assert sources.digest("train_student") != before
    assert sources.digest("plot_miou") == of_figure
