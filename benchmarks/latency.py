"""Measure students of config.yaml on scans of real size against 24 Hz: phases, precisions, memory.

    python benchmarks/latency.py [--scans 50] [--students elite elite_demo minkunet34] [scan.bin ...]

The weights are random, which takes the same time as trained weights. The scans are the given files, else the real
frames in data/sample, else one scan of 64 beams over a plane and walls. Batch 1; the device is synchronised between
phases; the time runs from points in memory to a label for every point, as in `measure_latency`. Precisions are measured
in turn; float16 needs a GPU, bfloat16 a CPU that has it. Prints a table and writes
`benchmarks/results/latency_<device>.json`.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from student import scan

from elite_pipeline import config as configuration
from elite_pipeline.config.reading import COMPARISONS
from elite_pipeline.datasets.classes import class_table
from elite_pipeline.evaluation import latency
from elite_pipeline.memory import keep_freed_memory
from elite_pipeline.provenance import commit, device_name, file_of_device, versions
from elite_pipeline.student.model import Predictor, build
from elite_pipeline.student.network import parameters
from elite_pipeline.student.sparse import bfloat16_on_cpu

CLASSES = class_table("semantickitti")
ROOT = Path(__file__).parent.parent


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="*", help=".bin scans")
    parser.add_argument("--students", nargs="+", default=["elite", "elite_demo", "minkunet34"])
    parser.add_argument("--scans", type=int, default=50, help="number of timed scans")
    parser.add_argument("--warmup", type=int, default=10, help="number of scans before them that do not count")
    parser.add_argument("--out", type=Path, help="default: benchmarks/results/latency_<device>.json")
    args = parser.parse_args()
    keep_freed_memory()
    files = args.files or sorted(ROOT.glob("data/sample/sequences/*/velodyne/*.bin"))
    scans = [np.fromfile(file, np.float32).reshape(-1, 4) for file in files] or [scan()]
    config = configuration.read(ROOT / "config.yaml", ROOT / COMPARISONS)
    result = {
        "points": [len(points) for points in scans],
        "source": [file.name for file in files] or "64 beams over a plane and walls",
        "students": {name: measured(config.students[name].network, scans, args) for name in args.students},
        "budget_ms": 1e3 / latency.BUDGET_HZ,
        "threads": torch.get_num_threads(),
        "device": device_name(),
        "versions": versions(),
        "commit": commit(),
    }
    show(result)
    out = args.out or file_of_device(ROOT / "benchmarks/results", "latency")
    out.write_text(json.dumps(result, indent=2) + "\n")


def measured(network, scans, args):
    """Return {"parameters", precision -> phases in ms, peak memory in MiB} of one student."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    found = {}
    on_cpu = ("32-true", "bf16-mixed") if bfloat16_on_cpu() else ("32-true",)
    for precision in ("32-true", "16-true") if device == "cuda" else on_cpu:
        torch.manual_seed(0)
        student = build(network, len(CLASSES))
        predictor = Predictor(student, {"classes": CLASSES.to_json()}, device=device, precision=precision)
        if device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        readers = [lambda points=points: points for points in scans]
        samples, sizes = latency.measure(predictor, readers, warmup=args.warmup, scans=args.scans)
        found["parameters"] = parameters(student)
        found[precision] = latency.summary(samples, sizes)
        if device == "cuda":
            found[precision]["peak_mib"] = torch.cuda.max_memory_allocated() / 2**20
    return found


def show(result):
    print(f"\n{result['device']}, {result['threads']} threads, {result['points']} points, ms at the median\n")
    print("| student | parameters | precision | voxelise | forward | scatter back | total | p99 | Hz | times as fast |")
    print("|---|---:|---|" + 7 * "---:|")
    for name, of_student in result["students"].items():
        first = of_student["32-true"]["phases"]["total"]["p50"]
        for precision in ("32-true", "16-true", "bf16-mixed"):
            if precision not in of_student:
                continue
            row = of_student[precision]
            phases = [row["phases"][phase]["p50"] for phase in ("voxelise", "forward", "scatter_back", "total")]
            cells = " | ".join(f"{ms:.2f}" for ms in (*phases, row["phases"]["total"]["p99"]))
            ratio = first / phases[-1]
            print(f"| {name} | {of_student['parameters']:,} | {precision} | {cells} | {row['hz']:.0f} | {ratio:.2f} |")


if __name__ == "__main__":
    main()
