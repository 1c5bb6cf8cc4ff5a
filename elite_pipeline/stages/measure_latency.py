"""Measure a student's latency against the budget of 24 Hz, one scan at a time.

The latency is the time from points in memory to a label for every point. Writes --out (JSON, with every sample), and a
table of the phases to the same name with .md. Without a GPU the stage runs on the CPU; `device` in the result says so.
"""

from pathlib import Path

from elite_pipeline.errors import run
from elite_pipeline.stages import add_sequences, parse, parser


def main(argv: list[str] | None = None) -> None:
    """Parse, read, time, write."""
    from elite_pipeline.config import MeasureLatency

    stage = parser(__doc__)
    stage.add_argument("--model", type=Path, required=True, help="folder of the trained student")
    add_sequences(stage, "frames")
    stage.add_argument("--threads", type=int, help="number of CPU threads (default: all CPUs that the process may use)")
    stage.add_argument("--out", type=Path, required=True, help="results/<experiment>_latency.json")
    arguments, settings = parse(stage, MeasureLatency, argv)

    import os
    from functools import partial

    import torch

    from elite_pipeline import provenance
    from elite_pipeline.evaluation import latency
    from elite_pipeline.recordings.sequence import open_recorded
    from elite_pipeline.results import write
    from elite_pipeline.student.model import Predictor

    torch.set_num_threads(arguments.threads or len(os.sched_getaffinity(0)))
    predictor = Predictor.load(arguments.model, precision=settings.precision)
    recordings = open_recorded(arguments.data, arguments.frames)
    readers = [partial(recorded.points, f) for recorded in recordings for f in range(len(recorded.index.frames))]
    samples, sizes = latency.measure(predictor, readers, warmup=settings.warmup, scans=settings.scans)
    result = {
        **latency.summary(samples, sizes),
        "warmup": settings.warmup,
        "precision": settings.precision,
        "device": provenance.device_name(),
        "versions": provenance.versions(),
        "samples": samples,
    }
    write(arguments.out, result, latency.table(result))


if __name__ == "__main__":
    run(main)
