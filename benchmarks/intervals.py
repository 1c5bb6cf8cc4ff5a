"""Paired 95 % intervals of the differences in a comparison: Student's t over the seeds.

    python benchmarks/intervals.py [results/<comparison>_comparison.json ...]

Without arguments, of all comparisons in benchmarks/results. A comparison prints its intervals itself; this script is
for those that older versions wrote. There the seeds are those of the students: the interval says nothing of other
teachers, other labelled scans or other places.
"""

import json
import sys
from pathlib import Path

import numpy as np

from elite_pipeline.comparison.intervals import over_seeds


def interval(differences):
    """(mean, half of the interval's width) of the differences of paired seeds, two at least."""
    low, high = over_seeds(differences)
    return (low + high) / 2, (high - low) / 2


def main():
    files = [Path(name) for name in sys.argv[1:]] or sorted(Path("benchmarks/results").glob("*_comparison.json"))
    for file in files:
        print(f"\n{file}: points of mIoU\n\n| difference | seed by seed | mean | 95 % interval |\n|---|---|---:|---:|")
        for name, difference in json.loads(file.read_text())["differences"].items():
            seeds = 100 * np.array(difference["seeds"])
            mean, half = interval(seeds) if len(seeds) > 1 else (seeds[0], None)
            listed = ", ".join(f"{seed:+.1f}" for seed in seeds)
            print(f"| {name} | {listed} | {mean:+.1f} | {'one seed' if half is None else f'± {half:.1f}'} |")


if __name__ == "__main__":
    main()
