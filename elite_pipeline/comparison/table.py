"""The Markdown page of a comparison: who did how well, by how much more than another, and on which classes."""

from collections.abc import Mapping, Sequence
from statistics import mean
from typing import Any

from elite_pipeline.comparison.runs import NOTEWORTHY, pretraining
from elite_pipeline.evaluation.metrics import is_oracle


def table(result: Mapping[str, Any]) -> str:
    """Markdown of `result` (the JSON of compare_experiments): all numbers in percent, or in points of a percent."""
    experiments, seeds = result["experiments"], _seeds(result)
    validation = result["validation"]
    lines = [
        f"# {result['comparison']}: {len(experiments)} experiments, {_count(len(seeds), 'seed')} each",
        "",
        f"{_count(validation['scans'], 'whole scan')} of sequences {', '.join(validation['sequences'])}:",
        f"{validation['points']:,} points. Official SemanticKITTI protocol, single pass. {_steps(experiments)}",
        "",
        f"| # | experiment | labelled scans | teacher at points: mIoU (accuracy) | mIoU, {_named(seeds)} | mean ± sd |",
        "|---:|---|---:|---:|---|---:|",
        *(_experiment(number, label, e) for number, (label, e) in enumerate(experiments.items(), 1)),
        "",
        "All in percent. sd: sample standard deviation over the seeds. Teacher at points: its soft labels, averaged",
        "over its stages, against labels that the student never saw (against all where the student saw all).",
        *_pretrained(experiments),
        *_known(experiments),
        *(_oracles(experiments) if any(map(is_oracle, experiments.values())) else ()),
        "",
        *_differences(result["differences"], seeds),
        "## IoU per class",
        "",
        "Mean over the seeds, in percent; the columns are the experiments by number.",
        "",
        f"| class | {' | '.join(f'#{k}' for k in range(1, len(experiments) + 1))} | points |",
        f"|---|{'---:|' * len(experiments)}---:|",
        *(_class(name, points, experiments) for name, points in validation["class_points"].items()),
        f"| **mean** | {' | '.join(_bold(e['mean']) for e in experiments.values())} | |",
    ]
    return "\n".join(lines) + "\n"


def verdict(difference: Mapping[str, Any]) -> str:
    """What a value of `differences` is worth against the spread of the seeds, in words."""
    if difference["larger_sd"] is None:
        return "one seed: unknown"
    if difference["larger_than_3_sd"]:
        return f"gain of more than {NOTEWORTHY} sd"
    if difference["mean"] < -NOTEWORTHY * difference["larger_sd"]:
        return f"loss of more than {NOTEWORTHY} sd"
    inside = abs(difference["mean"]) <= difference["larger_sd"]
    return "noise" if inside else f"between 1 and {NOTEWORTHY} sd: unsure"


def _experiment(number: int, label: str, experiment: Mapping[str, Any]) -> str:
    scans = f"{experiment['labelled_scans']:,} ({round(100 * experiment['labelled'], 1):g} %)"
    scans = scans if experiment["labelled_scans"] else "none: zero-shot"
    points, oracle = experiment["teacher_points"], " (oracle: diagnostic)" if is_oracle(experiment) else ""
    teacher = f"{100 * points['miou']:.1f} ({100 * points['accuracy']:.1f})" if points else "none"
    seeds = ", ".join(f"{100 * value:.1f}" for value in experiment["miou"])
    return f"| {number} | {_cell(label)}{oracle} | {scans} | {teacher} | {seeds} | {_spread(experiment, '.1f')} |"


def _spread(values: Mapping[str, Any], form: str) -> str:
    sd = "" if values["sd"] is None else f" ± {100 * values['sd']:.1f}"
    return f"{100 * values['mean']:{form}}{sd}"


def _differences(differences: Mapping[str, Any], seeds: Sequence[int]) -> list[str]:
    if not differences:
        return []
    lines = [
        "## Differences",
        "",
        f"| difference | {_named(seeds)} | mean ± sd | against the larger sd of the two |",
        "|---|---|---:|---|",
    ]
    for name, found in differences.items():
        by_seed = ", ".join(f"{100 * value:+.1f}" for value in found["seeds"])
        lines.append(f"| {_cell(name)} | {by_seed} | {_spread(found, '+.1f')} | {verdict(found)} |")
    return [
        *lines,
        "",
        "Points of mIoU, seed by seed. A mean difference that is no larger than the larger standard deviation of its",
        "two experiments is noise: runs of one experiment that differ in the seed alone are as far apart. What is",
        f"called a gain or a loss is more than {NOTEWORTHY} times as large; what lies between needs more seeds.",
        "",
    ]


def _oracles(experiments: Mapping[str, Any]) -> list[str]:
    numbers = ", ".join(f"#{k}" for k, e in enumerate(experiments.values(), 1) if is_oracle(e))
    return [
        "",
        f"**Oracles ({numbers}) are a diagnostic of the simulator and no result of the method**: such a teacher is the",
        "dense truth, corrupted to a stated accuracy, which no recorded drive has.",
    ]


def _pretrained(experiments: Mapping[str, Any]) -> list[str]:
    """Which experiments began with which pre-trained backbone."""
    names = dict.fromkeys(filter(None, map(pretraining, experiments.values())))
    if not names:
        return []
    of_name = [
        f"`{name}`: {', '.join(f'#{k}' for k, e in enumerate(experiments.values(), 1) if pretraining(e) == name)}"
        for name in names
    ]
    return ["", f"Begun with a pre-trained backbone, of the same seed: {'; '.join(of_name)}."]


def _known(experiments: Mapping[str, Any]) -> list[str]:
    """Means over the classes that a teacher knows, where it knows fewer than all."""
    fewer = {k: e for k, e in enumerate(experiments.values(), 1) if len(e["known_classes"]) < len(e["iou"])}
    if not fewer:
        return []
    means = [
        f"#{k} {100 * mean(e['iou'][name] for name in e['known_classes']):.1f} over {len(e['known_classes'])}"
        for k, e in fewer.items()
    ]
    return [
        "",
        "**Some students know only the classes that their teacher knows.** The means above are over all classes, with",
        f"0 for those that are never predicted. Over the known ones they are: {', '.join(means)}.",
    ]


def _class(name: str, points: int, experiments: Mapping[str, Any]) -> str:
    values = (f"{100 * e['iou'][name]:.1f}" if points else "" for e in experiments.values())
    return f"| {name} | {' | '.join(values)} | {f'{points:,}' if points else 'none'} |"


def _cell(label: str) -> str:
    return label.replace("|", "\\|")


def _bold(value: float) -> str:
    return f"**{100 * value:.1f}**"


def _steps(experiments: Mapping[str, Any]) -> str:
    steps = sorted({e["steps"] for e in experiments.values()})
    if len(steps) == 1:
        return f"Every student took {steps[0]:,} steps."
    each = ", ".join(f"{label} {e['steps']:,}" for label, e in experiments.items())
    return f"**The students took different numbers of steps**, which is a difference of its own: {each}."


def _seeds(result: Mapping[str, Any]) -> list[int]:
    return next(iter(result["experiments"].values()))["seeds"]


def _named(seeds: Sequence[int]) -> str:
    return f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'s' * (number != 1)}"
