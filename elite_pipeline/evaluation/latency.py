"""Measure a student's latency: from points in memory to a label for every point, phase by phase, scan by scan."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from elite_pipeline.progress import progress
from elite_pipeline.student.model import Predictor

BUDGET_HZ = 24
"""The rate that ELiTe claims. It is slightly more than twice the rate of the LiDAR."""

PHASES = ("read", "voxelise", "forward", "scatter_back", "total")
"""`total` is the sum of `voxelise`, `forward` and `scatter_back`. It excludes `read`, from the file to memory."""


def measure(
    predictor: Predictor, readers: Sequence[Callable[[], np.ndarray]], *, warmup: int, scans: int
) -> tuple[dict[str, list[float]], list[int]]:
    """Time `scans` scans after `warmup` scans that do not count: ({phase: [ms per scan]}, [points per scan]).

    readers: each returns the points of one scan, (N, 4) float32. They are called in turn, repeatedly if needed. The
    device is synchronised between phases, so that each phase counts only its own work.
    """
    samples: dict[str, list[float]] = {phase: [] for phase in PHASES}
    sizes: list[int] = []
    for scan in progress(range(warmup + scans), label="measure_latency", unit="scan"):
        clock = [_now(predictor.device)]
        points = readers[scan % len(readers)]()
        clock.append(_now(predictor.device))
        pyramid = predictor.voxelise(points)
        clock.append(_now(predictor.device))
        logits = predictor.forward(pyramid)
        clock.append(_now(predictor.device))
        predictor.scatter_back(logits, pyramid)
        clock.append(_now(predictor.device))
        if scan >= warmup:
            spans = np.diff(clock) * 1e3
            for phase, span in zip(PHASES, (*spans, spans[1:].sum()), strict=True):
                samples[phase].append(float(span))
            sizes.append(len(points))
    return samples, sizes


def summary(samples: Mapping[str, Sequence[float]], sizes: Sequence[int]) -> dict[str, Any]:
    """Return the numbers of `results/<experiment>_latency.json` that follow from the result of `measure`."""
    budget, total = 1e3 / BUDGET_HZ, np.array(samples["total"])
    phases = {phase: _percentiles(values) for phase, values in samples.items()}
    return {
        "budget_hz": BUDGET_HZ,
        "budget_ms": budget,
        "phases": phases,
        "hz": 1e3 / phases["total"]["p50"],
        "hz_p99": 1e3 / phases["total"]["p99"],
        "within_budget": float((total <= budget).mean()),
        "scans": len(total),
        "points_median": int(np.median(sizes)),
    }


def table(result: Mapping[str, Any]) -> str:
    """Return a Markdown table of `result` (the JSON of measure_latency), in ms."""
    rows = [
        f"| {phase} | " + " | ".join(f"{numbers[key]:.1f}" for key in ("p50", "p95", "p99", "max")) + " |"
        for phase, numbers in result["phases"].items()
    ]
    share = 100 * result["within_budget"]
    return f"""# {result["hz"]:.1f} Hz ({result["hz_p99"]:.1f} Hz at the 99th percentile)

Device: {result["device"]}; precision: {result["precision"]}. One scan at a time: {result["scans"]} timed scans after
{result["warmup"]} warm-up scans, with a median of {result["points_median"]:,} points. {share:.0f} % of the timed scans
meet the budget of {result["budget_ms"]:.1f} ms ({result["budget_hz"]} Hz).
`total` is the time from points in memory to a label for every point. It excludes `read`.

| phase, ms | p50 | p95 | p99 | max |
|---|---:|---:|---:|---:|
{chr(10).join(rows)}
"""


def _percentiles(values: Sequence[float]) -> dict[str, float]:
    p50, p95, p99 = np.percentile(values, (50, 95, 99))
    return {"p50": float(p50), "p95": float(p95), "p99": float(p99), "max": float(max(values))}


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
