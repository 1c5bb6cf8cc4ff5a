"""Every stage has one name for rule, module, log and test. Every rule has a description and resources."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RULES = {
    match.group(1): match.group(0)
    for file in sorted((ROOT / "workflow/rules").glob("*.smk"))
    for match in re.finditer(r"^rule (\w+):\n(?:(?:[ ].*)?\n)+", file.read_text(), re.MULTILINE)
}
STAGES = sorted(path.stem for path in (ROOT / "elite_pipeline/stages").glob("*.py") if path.stem != "__init__")


def test_every_rule_is_a_stage_and_every_stage_a_rule():
    assert sorted(RULES) == STAGES
    assert len(STAGES) >= 15


@pytest.mark.parametrize("name", STAGES)
def test_stage_has_the_same_name_everywhere(name):
    rule = RULES[name]
    assert f"python -m elite_pipeline.stages.{name} " in rule
    assert f'"logs/{name}' in rule
    assert f'"logs/jobs/{name}' in rule
    assert re.search(r'^    """.+"""$', rule, re.MULTILINE), "snakemake --list prints the docstring"
    assert f'stage("{name}"' in rule or re.search(rf'stage\(\s*"{name}"', rule), "the source files are inputs"
    for resource in ("threads:", "mem_mb=", "runtime="):
        assert resource in rule
    assert (ROOT / f"tests/stages/test_{name}.py").exists()


@pytest.mark.parametrize("name", STAGES)
def test_stage_is_plumbing(name):
    source = (ROOT / f"elite_pipeline/stages/{name}.py").read_text()
    tree = ast.parse(source)
    assert ast.get_docstring(tree)
    assert len(source.splitlines()) <= 110
    imported = {
        alias.name.split(".")[0] for node in tree.body if isinstance(node, ast.Import) for alias in node.names
    } | {node.module.split(".")[0] for node in tree.body if isinstance(node, ast.ImportFrom) and node.module}
    heavy = imported & {"torch", "spconv", "segment_anything", "peft", "open3d", "zarr", "matplotlib", "scipy"}
    assert not heavy, "put heavy imports into main(), so that --help and errors are instant"
