"""The Markdown page of a comparison: mIoU of every experiment, differences, and IoU per class."""

from collections.abc import Mapping, Sequence
from statistics import mean
from typing import Any

from elite_pipeline.comparison.intervals import side
from elite_pipeline.comparison.runs import pretraining
from elite_pipeline.evaluation.metrics import PROTOCOLS, absent_of, is_oracle

SPLITS = {"val": "validation", "test": "test"}


def table(result: Mapping[str, Any]) -> str:
    """Returns the Markdown page of `result` (the JSON of compare_experiments), in percent and percentage points."""
    experiments, seeds = result["experiments"], _seeds(result)
    points = result["evaluated"]
    sequences = f"{SPLITS[points['split']]} sequences {', '.join(points['sequences'])}"
    lines = [
        f"# {result['comparison']}: {len(experiments)} experiments, {_count(len(seeds), 'seed')} each",
        "",
        f"{_count(points['scans'], 'whole scan')} of {sequences}:",
        f"{points['points']:,} points. {PROTOCOLS[absent_of(result)]}",
        _steps(experiments),
        _presentations(experiments),
        "",
        f"| # | experiment | labelled scans | teacher at points: mIoU (accuracy) | mIoU, {_named(seeds)} | mean ± sd |"
        " accuracy | mIoU without the rarest | mIoU of seen, unseen points |",
        "|---:|---|---:|---:|---|---:|---:|---:|---:|",
        *(_experiment(number, label, e) for number, (label, e) in enumerate(experiments.items(), 1)),
        "",
        "All numbers are percent. sd: sample standard deviation over the seeds. Teacher at points: the teacher's soft",
        "labels, averaged over its stages, scored on labels that the student did not use (or on all, if it used all).",
        "Seen points: those that the cameras see in their frame; both means are over the classes of both groups.",
        *_rarest(points),
        *_pretrained(experiments),
        *_known(experiments),
        *(_oracles(experiments) if any(map(is_oracle, experiments.values())) else ()),
        "",
        *_differences(result, seeds),
        "## IoU per class",
        "",
        "Mean over the seeds, in percent. The columns are the experiments, by number.",
        "",
        f"| class | {' | '.join(f'#{k}' for k in range(1, len(experiments) + 1))} | points |",
        f"|---|{'---:|' * len(experiments)}---:|",
        *(_class(name, number, experiments) for name, number in points["class_points"].items()),
        f"| **mean** | {' | '.join(_bold(e['mean']) for e in experiments.values())} | |",
    ]
    return "\n".join(lines) + "\n"


def verdict(difference: Mapping[str, Any]) -> str:
    """Returns in words on which side of zero the two intervals of a value of `differences` lie.

    Words are `gain`, `loss` and, where an interval holds zero, `unsure`.
    """
    words = {1: "gain", -1: "loss", 0: "unsure"}
    sides = {name: side(difference[f"over_{name}"]) for name in ("seeds", "places")}
    known = {name: words[found] for name, found in sides.items() if found is not None}
    unknown = {"seeds": "one seed", "places": "one place"}
    lacking = [unknown[name] for name, found in sides.items() if found is None]
    if not known:
        return f"unknown: {', '.join(lacking)}"
    if len(set(known.values())) == 1:
        said = f"{next(iter(known.values()))} over {' and '.join(known)}"
    else:
        said = ", ".join(f"{word} over {name}" for name, word in known.items())
    return "; ".join([said, *lacking])


def _experiment(number: int, label: str, experiment: Mapping[str, Any]) -> str:
    scans = f"{experiment['labelled_scans']:,} ({round(100 * experiment['labelled'], 1):g} %)"
    scans = scans if experiment["labelled_scans"] else "none: zero-shot"
    points, oracle = experiment["teacher_points"], " (oracle: diagnostic)" if is_oracle(experiment) else ""
    teacher = f"{100 * points['miou']:.1f} ({100 * points['accuracy']:.1f})" if points else "none"
    seeds = ", ".join(f"{100 * value:.1f}" for value in experiment["miou"])
    sides = [_mean(experiment[f"miou_{group}"]) for group in ("seen", "unseen")]
    cells = [
        *(str(number), _cell(label) + oracle, scans, teacher, seeds, _spread(experiment, ".1f")),
        *(_mean(experiment["accuracy"]), _mean(experiment["miou_frequent"])),
        "" if "" in sides else ", ".join(sides),
    ]
    return f"| {' | '.join(cells)} |"


def _mean(values: Sequence[float] | None) -> str:
    """Returns the mean over the seeds in percent; nothing where it is not known."""
    return f"{100 * mean(values):.1f}" if values else ""


def _spread(values: Mapping[str, Any], form: str) -> str:
    sd = "" if values["sd"] is None else f" ± {100 * values['sd']:.1f}"
    return f"{100 * values['mean']:{form}}{sd}"


def _differences(result: Mapping[str, Any], seeds: Sequence[int]) -> list[str]:
    if not (differences := result["differences"]):
        return []
    lines = [
        "## Differences",
        "",
        "Percentage points, seed by seed. The intervals are of 95 %.",
        "",
        f"| difference | mIoU, {_named(seeds)} | mean | over seeds | over places | in words |",
        "|---|---|---:|---:|---:|---|",
    ]
    for name, found in differences.items():
        by_seed = ", ".join(f"{100 * value:+.1f}" for value in found["seeds"])
        lines.append(f"| {_cell(name)} | {by_seed} | {' | '.join(_difference(found))} | {verdict(found)} |")
    lines += [
        "",
        "| difference | accuracy | over seeds | over places | mIoU without the rarest | over seeds | over places |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name, found in differences.items():
        cells = [cell for score in ("accuracy", "miou_frequent") for cell in _difference(found[score])]
        lines.append(f"| {_cell(name)} | {' | '.join(cells)} |")
    number = result["intervals"]["places"]
    return [
        *lines,
        "",
        "Over seeds: Student's t over the paired differences. It says whether other seeds would show the difference on",
        "the same places: a seed draws the student, and the labelled drives and their teacher if the data set draws",
        f"them. Over places: bootstrap, {result['intervals']['resamples']:,} times {_count(number, 'place')} drawn with"
        " replacement, the same",
        "for both experiments. It says whether the same students would show it at other places. A gain or a loss is an",
        "interval on one side of zero; an interval that holds zero is unsure.",
        "",
    ]


def _difference(found: Mapping[str, Any] | None) -> list[str]:
    """Returns three cells: mean, interval over seeds, interval over places."""
    if found is None:
        return ["", "", ""]
    between = (found[f"over_{name}"] for name in ("seeds", "places"))
    ends = (" to ".join(f"{100 * end:+.1f}" for end in interval) if interval else "" for interval in between)
    return [f"{100 * found['mean']:+.1f}", *ends]


def _rarest(points: Mapping[str, Any]) -> list[str]:
    """Returns a line with the classes that `mIoU without the rarest` leaves out."""
    frequent, of_class = points["frequent_classes"], points["class_points"]
    rare = [f"{name} ({number:,})" for name, number in of_class.items() if number and name not in frequent]
    return [f"The rarest classes, by evaluated points: {', '.join(rare)}."] if frequent else []


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
    means = [f"#{k} {100 * mean(_of_known(e)):.1f} over {len(e['known_classes'])}" for k, e in fewer.items()]
    return [
        "",
        "**Some students know only the classes that their teacher knows.** The means above are over all classes, and a",
        f"class that is never predicted counts as 0. The means over the known classes are: {', '.join(means)}.",
    ]


def _of_known(experiment: Mapping[str, Any]) -> list[float]:
    """Returns the scores whose mean is that over the known classes: one per seed; of older results, one per class."""
    by_seed: list[float | None] = experiment.get("miou_known") or [None]
    if None not in by_seed:
        return [value for value in by_seed if value is not None]
    values = (experiment["iou"][name] for name in experiment["known_classes"])
    return [value for value in values if value is not None]


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


def _presentations(experiments: Mapping[str, Any]) -> str:
    """Returns a sentence on how many labelled scans the students saw in training; in bold where they differ."""
    seen = {label: e["presentations"] and round(mean(e["presentations"])) for label, e in experiments.items()}
    if None in seen.values():
        return (
            "How many labelled scans the students saw in training is not known of all: an older version trained some."
        )
    if len(set(seen.values())) == 1:
        number = next(iter(seen.values()))
        return f"Every student saw {number:,} labelled scans in training. A scan counts as often as it was drawn."
    each = ", ".join(f"{label} {number:,}" for label, number in seen.items())
    return (
        "**The students saw different numbers of labelled scans in training**, which also affects the results. A scan"
        f" counts as often as it was drawn: {each}."
    )


def _seeds(result: Mapping[str, Any]) -> list[int]:
    return next(iter(result["experiments"].values()))["seeds"]


def _named(seeds: Sequence[int]) -> str:
    return f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'s' * (number != 1)}"
