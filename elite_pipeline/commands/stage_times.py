"""Where the time went: each stage's share of an experiment's jobs."""

import csv
from collections.abc import Container
from pathlib import Path

from elite_pipeline import config
from elite_pipeline.config.reading import COMPARISONS
from elite_pipeline.config.seeds import dataset_of, entry


def stage_usage(folder: str | Path, names: Container[str]) -> dict[str, tuple[int, float, float]]:
    """{stage: (jobs, seconds, peak megabytes)} of the job statistics `folder/<stage>/<name>...`, name in `names`."""
    found = {}
    for stage in sorted(path for path in Path(folder).iterdir() if path.is_dir()):
        files = [p for p in stage.rglob("*.tsv") if p.relative_to(stage).parts[0].removesuffix(".tsv") in names]
        rows = [next(csv.DictReader(file.open(), delimiter="\t")) for file in files]
        if rows:
            # A job of under a second has no memory reading.
            peak = max(0.0 if row["max_rss"] in ("-", "NA") else float(row["max_rss"]) for row in rows)
            found[stage.name] = (len(rows), sum(float(row["s"]) for row in rows), peak)
    return found


def table(experiment: str) -> str:
    """The stages of an experiment, longest first. Raises `InputError` where `config.yaml` is not valid."""
    known = config.read(Path("config.yaml"), COMPARISONS)
    dataset = known.experiments[entry(experiment)].dataset
    entries = {name: one.model_dump(mode="json") for name, one in known.datasets.items()}
    names = {experiment, dataset, dataset_of(experiment, dataset, entries)}
    found = stage_usage("logs/jobs", names) if Path("logs/jobs").is_dir() else {}
    if not found:
        return "logs/jobs holds no times of these stages."
    total = sum(seconds for _, seconds, _ in found.values())
    lines = [f"{'stage':<22}{'jobs':>5}{'seconds':>9}{'share':>8}{'peak MB':>9}"]
    for stage, (jobs, seconds, peak) in sorted(found.items(), key=lambda item: -item[1][1]):
        lines.append(f"{stage:<22}{jobs:>5}{seconds:>9.1f}{seconds / total:>8.1%}{peak:>9.0f}")
    lines.append(f"{'all stages':<27}{total:>9.1f}  (jobs that ran side by side count in full)")
    return "\n".join(lines)
