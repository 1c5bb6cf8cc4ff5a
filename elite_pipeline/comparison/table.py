"""The Markdown page of a comparison: mIoU of every experiment, differences, and IoU per class."""

from collections.abc import Mapping, Sequence
from statistics import mean
from typing import Any

from elite_pipeline.comparison.runs import NOTEWORTHY, pretraining
from elite_pipeline.evaluation.metrics import is_oracle


def table(result: Mapping[str, Any]) -> str:
    """Returns the Markdown page of `result` (the JSON of compare_experiments), in percent and percentage points."""
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
        "All numbers are percent. sd: sample standard deviation over the seeds. Teacher at points: the teacher's soft",
        "labels, averaged over its stages, scored on labels that the student did not use (or on all, if it used all).",
        *_pretrained(experiments),
        *_known(experiments),
        *(_oracles(experiments) if any(map(is_oracle, experiments.values())) else ()),
        "",
        *_differences(result["differences"], seeds),
        "## IoU per class",
        "",
        "Mean over the seeds, in percent. The columns are the experiments, by number.",
        "",
        f"| class | {' | '.join(f'#{k}' for k in range(1, len(experiments) + 1))} | points |",
        f"|---|{'---:|' * len(experiments)}---:|",
        *(_class(name, points, experiments) for name, points in validation["class_points"].items()),
        f"| **mean** | {' | '.join(_bold(e['mean']) for e in experiments.values())} | |",
    ]
    return "\n".join(lines) + "\n"


def verdict(difference: Mapping[str, Any]) -> str:
    """Returns in words how large a value of `differences` is, compared with the spread over the seeds."""
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
        f"| difference | {_named(seeds)} | mean ± sd | compared with the larger sd of the two |",
        "|---|---|---:|---|",
    ]
    for name, found in differences.items():
        by_seed = ", ".join(f"{100 * value:+.1f}" for value in found["seeds"])
        lines.append(f"| {_cell(name)} | {by_seed} | {_spread(found, '+.1f')} | {verdict(found)} |")
    return [
        *lines,
        "",
        "Percentage points of mIoU, seed by seed. A mean difference is noise if it is no larger than the larger",
        "standard deviation of the two experiments: runs of one experiment with different seeds differ as much. A gain",
        f"or a loss is more than {NOTEWORTHY} times that standard deviation. Differences in between need more seeds.",
        "",
    ]


def _oracles(experiments: Mapping[str, Any]) -> list[str]:
    numbers = ", ".join(f"#{k}" for k, e in enumerate(experiments.values(), 1) if is_oracle(e))
    return [
        "",
        f"**Oracles ({numbers}) are a diagnostic of the simulator and not a result of the method**: such a teacher is",
        "dense ground truth with errors added, down to a stated accuracy. Recorded drives have no dense ground truth.",
    ]


def _pretrained(experiments: Mapping[str, Any]) -> list[str]:
    """Returns lines on which experiments use which pre-trained backbone."""
    names = dict.fromkeys(filter(None, map(pretraining, experiments.values())))
    if not names:
        return []
    of_name = [
        f"`{name}`: {', '.join(f'#{k}' for k, e in enumerate(experiments.values(), 1) if pretraining(e) == name)}"
        for name in names
    ]
    return ["", f"Experiments with a pre-trained backbone (of the same seed): {'; '.join(of_name)}."]


def _known(experiments: Mapping[str, Any]) -> list[str]:
    """Returns lines with means over the classes that the teacher knows, if it does not know all."""
    fewer = {k: e for k, e in enumerate(experiments.values(), 1) if len(e["known_classes"]) < len(e["iou"])}
    if not fewer:
        return []
    means = [
        f"#{k} {100 * mean(e['iou'][name] for name in e['known_classes']):.1f} over {len(e['known_classes'])}"
        for k, e in fewer.items()
    ]
    return [
        "",
        "**Some students know only the classes that their teacher knows.** The means above are over all classes, and a",
        f"class that is never predicted counts as 0. The means over the known classes are: {', '.join(means)}.",
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
    return f"**The students took different numbers of steps**, which also affects the results: {each}."


def _seeds(result: Mapping[str, Any]) -> list[int]:
    return next(iter(result["experiments"].values()))["seeds"]


def _named(seeds: Sequence[int]) -> str:
    return f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'s' * (number != 1)}"
