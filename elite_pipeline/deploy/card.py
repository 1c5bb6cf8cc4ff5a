"""The model card of a trained student, in the form that the Hugging Face Hub reads: Markdown under a YAML header."""

import json
from pathlib import Path
from typing import Any

import yaml

from elite_pipeline.choices import STUDENTS, load
from elite_pipeline.errors import InputError
from elite_pipeline.evaluation.metrics import class_rows, is_oracle, teacher_lines, unknown_classes
from elite_pipeline.student.model import WEIGHTS, weights_sha256
from elite_pipeline.student.network import StudentNetwork
from elite_pipeline.student.voxels import AXES

TAGS = ["lidar", "point-cloud", "semantic-segmentation", "knowledge-distillation", "autonomous-driving"]


def card(
    config: dict[str, Any],
    miou: dict[str, Any],
    latency: dict[str, Any],
    *,
    teacher: str | None,
    simulated: bool,
    points: dict[str, Any] | None = None,
) -> str:
    """The card (Markdown) of the student with this `config.json`.

    `miou` and `latency` are its results, measured in a single pass; `teacher` is the name of the experiment's teacher,
    and `points` how well that one knows the points; `simulated` tells whether the student was trained and scored on
    simulated drives.
    """
    return "\n".join(
        [
            _header(config, miou),
            _introduction(config, miou, simulated),
            _input_and_output(config),
            _training(config, miou, teacher, points),
            _measured(miou, latency),
            _use(config["experiment"]),
            _provenance(config, miou),
        ]
    )


def read_result(path: Path, rule: str) -> dict[str, Any]:
    """The JSON values of a result that `rule` wrote. Raises `InputError` where the file is missing or no JSON."""
    try:
        return json.loads(Path(path).read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise InputError(f"{path}: no readable result there ({error}). Run {rule}: snakemake {path}") from None


def refuse_other_weights(model: Path, path: Path, miou: dict[str, Any]) -> None:
    """Check that the result `miou` of file `path` is the single-pass score of the weights in the folder `model`.

    Raises `InputError` where it is not, and where the weights cannot be read.
    """
    weights, again = Path(model) / WEIGHTS, f"Rerun evaluate_miou: snakemake --forcerun evaluate_miou {path}"
    try:
        present = weights_sha256(model)
    except OSError as error:
        raise InputError(f"{weights}: unreadable ({error}). Train the student again: snakemake {weights}") from None
    if miou["weights_sha256"] != present:
        scored = miou["weights_sha256"]
        raise InputError(f"{path} scores weights of sha256 {scored}, but {weights} has {present}. {again}")
    if miou["tta"]:
        raise InputError(f"{path} is a score with test-time augmentation; a card states the single pass. {again}")


def _header(config: dict[str, Any], miou: dict[str, Any]) -> str:
    # No `license`: that of the weights follows from the data and the teacher behind them, which no file here states.
    measured = {
        "task": {"type": "semantic-segmentation", "name": "LiDAR semantic segmentation"},
        "dataset": {"type": miou["dataset"], "name": miou["dataset"], "split": miou["split"]},
        "metrics": [{"type": "mean_iou", "name": "mIoU, single pass", "value": round(miou["miou"], 4)}],
    }
    if unknown_classes(miou):
        name = f"mIoU over the {len(miou['known_classes'])} classes that its teacher knows, single pass"
        measured["metrics"].append({"type": "mean_iou", "name": name, "value": round(miou["miou_known"], 4)})
    front = {
        "library_name": "elite_pipeline",
        "tags": TAGS,
        "model-index": [{"name": config["experiment"], "results": [measured]}],
    }
    return f"---\n{yaml.safe_dump(front, sort_keys=False, allow_unicode=True)}---"


def _introduction(config: dict[str, Any], miou: dict[str, Any], simulated: bool) -> str:
    drives = "simulated drives" if simulated else "recorded drives"
    warning = (
        "\n- Everything here was learnt from and scored on *simulated* drives. It says how well the method works there,"
        "\n  and nothing of real scans: do not use these weights on a vehicle's data."
        if simulated
        else ""
    )
    return f"""
# {config["experiment"]}: a {"zero-shot " if _zero_shot(config) else ""}LiDAR segmentation student

A {_network(config).title} of {config["parameters"]:,} parameters that names the class of every point of a LiDAR scan,
from the scan alone; no image. Trained by elite_pipeline on {drives} (data set `{miou["dataset"]}`).

## Intended use and limits

For research and engineering on LiDAR perception: a baseline, a starting point for more training, labels for one's own
scans of a like sensor.

- It knows the sensor, its height above ground and the places that it was trained with. Score it on your own labelled
  scans before you rely on it; the numbers below say nothing of other sensors, weather or cities.
- One scan at a time, no memory: no tracking, no instances, no moving against standing.
- It always answers with one of its classes, also where it has never seen the like, and gives no confidence.
{_limit(config, miou)}
- Not made, or tested, for decisions on which safety depends.{warning}
"""


def _limit(config: dict[str, Any], miou: dict[str, Any]) -> str:
    if not _zero_shot(config):
        return "- A class without labels in training, or points in validation, is not known to work (see the tables)."
    unknown = ", ".join(unknown_classes(miou))
    never = f"\n- Its teacher does not know {unknown}: do not expect these of it." if unknown else ""
    return f"""- It has seen no 3D label: it calls a class what its teacher, an image network, calls so.
- A class without points in validation is not known to work (see the tables).{never}"""


def _zero_shot(config: dict[str, Any]) -> bool:
    return config["labelled_scans"] == 0 and bool(config["taught"])


def _network(config: dict[str, Any]) -> type[StudentNetwork]:
    return load(STUDENTS[config["network"]["kind"]])


def _input_and_output(config: dict[str, Any]) -> str:
    network = config["network"]
    axes = AXES[network.get("frame", "cartesian")].items()
    volume = ", ".join(
        f"{axis} {low:g} to {high:g} {unit}" for (axis, unit), (low, high) in zip(axes, network["volume"], strict=True)
    )
    classes = ", ".join(f"{k} {name}" for k, name in enumerate(config["classes"]["names"]) if k)
    return f"""## Input and output

- Input: (N, 4) float32, a scan in any order: x, y, z in metres in the LiDAR's own frame (x forward, y left, z up,
  origin at the sensor) and remission (0 to 1), as in SemanticKITTI's `velodyne/*.bin`.
- Output: (N,) uint8, a training id for every point in that order; 0 (unlabelled) is never predicted.
  `predict.classes` is the class table: names, raw ids, colours.
- Classes: {classes}.
- Volume: {volume}; a point outside gets the label of the nearest place in it.
- Network: {_network(config).describe(network)}.
"""


def _training(config: dict[str, Any], miou: dict[str, Any], teacher: str | None, points: dict[str, Any] | None) -> str:
    options = config["settings"]["train_student"]
    return f"""## Training

| | |
|---|---|
| data set | {miou["dataset"]}, sequences {", ".join(config["trained_on"])} |
| scans | {config["scans"]:,}, {config["labelled_scans"]:,} of them with labels |
| classes with labels | {_labelled_classes(config)} |
| teacher | {_teaching(config, miou, teacher)} |
| its soft labels | {"; ".join(teacher_lines(points)) if points and config["taught"] else "not measured"} |
| backbone | {_beginning(config["pretrained"])} |
| training | {config["steps"]:,} steps, batch {options["batch"]}, seed {options["seed"]}, on {config["device"]} |

`config.json` holds every setting, `training.jsonl` the losses of every step.
"""


def _labelled_classes(config: dict[str, Any]) -> str:
    counts = config["labelled_classes"]
    known = [f"{name} ({counts[name]:,} points)" for name in config["classes"]["names"][1:] if counts.get(name)]
    unknown = [name for name in config["classes"]["names"][1:] if not counts.get(name)]
    return "; none of ".join(filter(None, (", ".join(known), ", ".join(unknown)))) if known else "none"


def _beginning(pretrained: str | None) -> str:
    if not pretrained:
        return "from random weights"
    return f"pre-trained before it saw a label: `{pretrained}`, against an image network's features"


def _teaching(config: dict[str, Any], miou: dict[str, Any], teacher: str | None) -> str:
    if not config["taught"]:
        return "none: trained from labels alone"
    if is_oracle(miou):
        return (
            f"`{teacher}`, distilled: a diagnostic, the simulator's truth corrupted on purpose, no result of the method"
        )
    said = f"`{teacher}`, an image network, distilled through its cached answers at the points that its cameras see"
    if config["network"].get("classifier") == "shared":
        said += "; its classifier is the student's too, and was not trained here"
    return f"{said}; nothing else taught it (zero-shot)" if _zero_shot(config) else said


def _measured(miou: dict[str, Any], latency: dict[str, Any]) -> str:
    total, score = latency["phases"]["total"], f"**{100 * miou['miou']:.1f} % mIoU**"
    if unknown_classes(miou):
        known = f"over the {len(miou['known_classes'])} that its teacher knows"
        score += f" over all {len(miou['iou'])} classes, **{100 * miou['miou_known']:.1f} %** {known},"
    scored = f"{miou['scans']:,} whole scans of {miou['dataset']}, {miou['split']}: {', '.join(miou['sequences'])}"
    verdict = "within" if total["p99"] <= latency["budget_ms"] else "not within"
    met = f"{100 * latency['within_budget']:.0f} % of {latency['scans']} scans met the budget"
    budget = f"{latency['budget_ms']:.1f} ms of {latency['budget_hz']} Hz"
    return f"""## Measured

{score} on {scored}, by SemanticKITTI's
official protocol: every labelled point counts, single pass, no test-time augmentation; a class without points has 0.

| class | IoU, % | points |
|---|---:|---:|
{chr(10).join(class_rows(miou))}

**{total["p50"]:.1f} ms per scan** at the median, {total["p99"]:.1f} ms at the 99th percentile, from points in memory to
a label for every point, one scan at a time ({latency["points_median"]:,} points in the median one).
Device: {latency["device"]}; precision: {latency["precision"]}.
{met}, {budget}; the 99th percentile is {verdict} it.
"""


def _use(experiment: str) -> str:
    return f"""## Use

    import numpy as np
    from elite_pipeline.student.model import Predictor

    predict = Predictor.load("models/{experiment}")
    points = np.fromfile("scan.bin", np.float32).reshape(-1, 4)
    training_ids = predict(points)  # (N,) uint8

Files to files, from this folder alone:

    python -m elite_pipeline.stages.predict_scans --model models/{experiment} scan.bin --out labels/
"""


def _provenance(config: dict[str, Any], miou: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in config["versions"].items())
    return f"""## Provenance

| | |
|---|---|
| weights | `{WEIGHTS}`, sha256 `{miou["weights_sha256"]}` |
| parameters | {config["parameters"]:,} |
| trained by | commit {config["commit"] or "unknown"}; {versions} |
| scored by | commit {miou["commit"] or "unknown"}, on {miou["device"]} |

No licence is stated for the weights: what may be done with them depends on the data and on the teacher behind them.
"""
