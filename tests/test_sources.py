"""The import graph: no circles, every name said once; and how imports are found."""

import ast
from collections import defaultdict
from pathlib import Path

import pytest

from elite_pipeline import sources
from elite_pipeline.sources import PACKAGE, describe, graph


def names(kind):
    """Name of a module or of a public class -> where it stands."""
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
def test_a_name_is_said_once(kind):
    """Stages are named like their rules, and figures like what they show."""
    twice = {name: places for name, places in names(kind).items() if len(places) > 1}
    assert not twice
    assert len(names(kind)) > 80


def test_no_module_is_part_of_a_circle():
    assert describe().endswith("circles of modules: 0")


def test_no_module_outside_of_datasets_names_a_class():
    """Class tables are handed to whoever needs them."""
    for file in sorted(PACKAGE.rglob("*.py")):
        if file.relative_to(PACKAGE).parts[0] in ("datasets", "simulation"):
            continue
        text = file.read_text()
        assert "datasets.semantickitti import" not in text.replace("datasets.semantickitti import BENCHMARK", ""), (
            f"{file} knows one format"
        )
        assert 'class_table("' not in text, f"{file} knows one class table"


@pytest.fixture
def package(tmp_path):
    """A package with a circle, an import inside a function, and one for type checkers alone."""
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


def test_the_shape_is_told(package):
    assert describe(package).splitlines() == [
        "modules: 4",
        "modules at the root: 1",
        "folders: 1",
        "imports between folders and modules at the root: 1 pairs",
        "circles of modules: 1",
        "  part/first.py, part/second.py",
    ]


def test_the_digest_follows_what_a_stage_may_pick(monkeypatch, tmp_path):
    before, of_figure = sources.digest("train_student"), sources.digest("plot_miou")
    assert before == sources.digest("train_student")
    assert before != of_figure
    # Of what the configuration may choose, all counts: an interrupted run never goes on under other code.
    read = Path.read_bytes
    changed = PACKAGE / "student/minkunet.py"
    monkeypatch.setattr(Path, "read_bytes", lambda path: read(path) + (b"#" if path == changed else b""))
    assert sources.digest("train_student") != before
    assert sources.digest("plot_miou") == of_figure
