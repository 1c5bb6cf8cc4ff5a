"""How long a stage takes to start: all its imports, with and without torch's compiler and Open3D's viewers.

    python benchmarks/starts.py [stage ...]

Every stage is a process of its own. It imports the modules that the stage's result follows from (`sources.py`), and
also what these import inside functions: an upper limit, since no run needs all of them.
"""

import argparse
import ast
import json
import subprocess
import sys
from pathlib import Path

from elite_pipeline.provenance import commit, device_name, versions
from elite_pipeline.sources import sources

ROOT = Path(__file__).parents[1]
CHOSEN = ("semantickitti", "sam_tiny", "spvcnn", "minkunet")
RESULT = ROOT / "benchmarks/results/starts.json"
SOME = ("simulate_drive", "project_points", "label_images", "tune_teacher", "cache_teacher", "train_student")

START = """
import contextlib, sys, time
begun = time.perf_counter()
from elite_pipeline import compiler, system
if {light}:
    compiler.leave_out_compiler()
else:
    system.OPEN3D_UNUSED.clear()
for statement in {statements!r}:
    exec(statement)
if {open3d}:
    system.import_open3d()
print(time.perf_counter() - begun)
"""


def statements(stage):
    """The import statements of all files behind `stage`, those for type checkers aside."""
    found = {}
    for file in sources(stage, CHOSEN):
        tree = ast.parse(file.read_text())
        skipped = {
            id(part)
            for node in ast.walk(tree)
            if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
            for part in ast.walk(node)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Import | ast.ImportFrom) and id(node) not in skipped:
                found[ast.unparse(node)] = None
    return list(found)


def seconds(stage, *, light):
    """Seconds that a process takes to import all of it; the better of two."""
    found = statements(stage)
    open3d = any("import_open3d" in statement for statement in found)
    code = START.format(light=light, statements=found, open3d=open3d)
    command = [sys.executable, "-c", code]
    options = {"cwd": ROOT, "capture_output": True, "text": True, "check": True}
    return min(float(subprocess.run(command, **options).stdout.split()[-1]) for _ in range(2))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stages", nargs="*", default=SOME, help="stages to start (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=RESULT)
    args, result = parser.parse_args(), {}
    for stage in args.stages:
        light, heavy = (seconds(stage, light=light) for light in (True, False))
        result[stage] = {"seconds": round(light, 2), "seconds_before": round(heavy, 2)}
        print(f"{stage:<20}{light:6.2f} s, with compiler and viewers {heavy:6.2f} s: {heavy / light:.1f} times as long")
    about = {"device": device_name(), "commit": commit(), "versions": versions()}
    args.out.write_text(json.dumps({**about, "stages": result}, indent=1) + "\n")


if __name__ == "__main__":
    main()
