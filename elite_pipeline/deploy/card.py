"""The model card of a trained student: Markdown with a YAML header, as the Hugging Face Hub reads it."""

import json
from pathlib import Path
from typing import Any

import yaml

from elite_pipeline.choices import STUDENTS, load
from elite_pipeline.errors import InputError
from elite_pipeline.evaluation.metrics import (
    class_rows,
    is_oracle,
    percent,
    protocol,
    teacher_lines,
    unknown_classes,
)
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
    """Return the model card (Markdown) of a student.

    config: the student's `config.json`. miou, latency: its results, measured in a single pass. teacher: name of the
    experiment's teacher. points: the JSON of evaluate_teacher, the quality of the teacher's soft labels. simulated:
    whether the student was trained and scored on simulated drives.
    """
    return "\n".join(
        [
            _header(config, miou),
            _introduction(config, miou, simulated),
            _input_and_output(config),
            _training(config, miou, teacher, points),
            _measured(miou, latency),
            _use(config),
            _provenance(config, miou),
        ]
    )


def read_result(path: Path, rule: str) -> dict[str, Any]:
    """Return the JSON values of a result that `rule` wrote.

    Raises `InputError` where the file is missing or is not JSON.
    """
    try:
        return json.loads(Path(path).read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise InputError(f"{path}: cannot read this result ({error}). Run {rule}: snakemake {path}") from None


def refuse_other_weights(model: Path, path: Path, miou: dict[str, Any]) -> None:
    """Check that `miou`, read from `path`, is the single-pass score of the weights in the folder `model`.

    Raises `InputError` where it is not, or where the weights cannot be read.
    """
    weights, again = Path(model) / WEIGHTS, f"Rerun evaluate_miou: snakemake --forcerun evaluate_miou {path}"
    try:
        present = weights_sha256(model)
    except OSError as error:
        raise InputError(f"{weights}: unreadable ({error}). Train the student again: snakemake {weights}") from None
    if miou["weights_sha256"] != present:
        scored = miou["weights_sha256"]
        raise InputError(f"{path} scores weights with sha256 {scored}, but {weights} has {present}. {again}")
    if miou["tta"]:
        raise InputError(f"{path} is a score with test-time augmentation, but a card needs the single pass. {again}")


def _header(config: dict[str, Any], miou: dict[str, Any]) -> str:
    # No `license` key: the licence of the weights depends on the data and the teacher, and no file here states it.
    measured = {
        "task": {"type": "semantic-segmentation", "name": "LiDAR semantic segmentation"},
        "dataset": {"type": miou["dataset"], "name": miou["dataset"], "split": miou["split"]},
        "metrics": [{"type": "mean_iou", "name": "mIoU, single pass", "value": round(miou["miou"], 4)}],
    }
    if unknown_classes(miou) and miou["miou_known"] is not None:
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
        "\n- The student was trained and scored on *simulated* drives. The numbers show how well the method works there"
        "\n  and say nothing about real scans. Do not use these weights on the data of a real vehicle."
        if simulated
        else ""
    )
    return f"""
# {config["experiment"]}: a {"zero-shot " if _zero_shot(config) else ""}LiDAR segmentation student

A {_network(config).title} of {config["parameters"]:,} parameters. It predicts the class of every point of a LiDAR scan.
It needs only the scan, no image. Trained by elite_pipeline on {drives} (data set `{miou["dataset"]}`).

## Intended use and limits

For research and engineering on LiDAR perception. Use the student as a baseline, as a starting point for further
training, or to label your own scans from a similar sensor.

- It was trained on one sensor at one height above ground, and only in the places of its training data. Score it on your
  own labelled scans before you rely on it. The numbers below say nothing about other sensors, weather or cities.
- It processes one scan at a time and keeps no memory. It does not track objects, separate instances, or tell moving
  objects from standing ones.
- It always predicts one of its classes, even for objects unlike any in its training data. It gives no confidence.
{_limit(config, miou)}
- It was neither made nor tested for safety-critical decisions.{warning}
"""


def _limit(config: dict[str, Any], miou: dict[str, Any]) -> str:
    if not _zero_shot(config):
        return "- Do not rely on a class without labels in training or without points in validation (see the tables)."
    unknown = ", ".join(unknown_classes(miou))
    never = f"\n- Its teacher does not know {unknown}: do not expect the student to predict them." if unknown else ""
    return f"""- It has seen no 3D labels. It learnt every class from its teacher, an image network.
- Do not rely on a class without points in validation (see the tables).{never}"""


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

- Input: (N, 4) float32, the points of one scan in any order, {_like(config)}. The columns are
  x, y, z in metres in the LiDAR's own frame (x forward, y left, z up, origin at the sensor), and remission (0 to 1).
- Output: (N,) uint8, one training id per point, in the order of the input. 0 (unlabelled) is never predicted.
  `predict.classes` is the class table: names, raw ids and colours.
- Classes: {classes}.
- Volume: {volume}; a point outside gets the label of the nearest place inside.
- Network: {_network(config).describe(network)}.
"""


def _of_nuscenes(config: dict[str, Any]) -> bool:
    return config.get("scan_format") == "nuscenes"


def _like(config: dict[str, Any]) -> str:
    if _of_nuscenes(config):
        return "from nuScenes' `.pcd.bin` by `read_scan` (see Use)"
    return "as in SemanticKITTI's `velodyne/*.bin`"


def _training(config: dict[str, Any], miou: dict[str, Any], teacher: str | None, points: dict[str, Any] | None) -> str:
    options = config["settings"]["train_student"]
    return f"""## Training

| | |
|---|---|
| data set | {miou["dataset"]}, sequences {", ".join(config["trained_on"])} |
| scans | {config["scans"]:,}, {config["labelled_scans"]:,} of them with labels |
| classes with labels | {_labelled_classes(config)} |
| teacher | {_teaching(config, miou, teacher)} |
| teacher's soft labels | {"; ".join(teacher_lines(points)) if points and config["taught"] else "not measured"} |
| backbone | {_beginning(config["pretrained"])} |
| training | {config["steps"]:,} steps, batch {options["batch"]}, seed {options["seed"]}, on {config["device"]} |

`config.json` holds every setting. `training.jsonl` holds the losses of every step.
"""


def _labelled_classes(config: dict[str, Any]) -> str:
    counts = config["labelled_classes"]
    known = [f"{name} ({counts[name]:,} points)" for name in config["classes"]["names"][1:] if counts.get(name)]
    unknown = [name for name in config["classes"]["names"][1:] if not counts.get(name)]
    return "; no labels for ".join(filter(None, (", ".join(known), ", ".join(unknown)))) if known else "none"


def _beginning(pretrained: str | None) -> str:
    if not pretrained:
        return "random initial weights"
    return f"`{pretrained}`, pre-trained without labels to match the features of an image network"


def _teaching(config: dict[str, Any], miou: dict[str, Any], teacher: str | None) -> str:
    if not config["taught"]:
        return "none: trained from labels alone"
    if is_oracle(miou):
        return (
            f"`{teacher}`, an oracle: the simulator's ground truth with errors added on purpose."
            " This is a diagnostic, not a result of the method"
        )
    said = f"`{teacher}`, an image network; the student learnt from its cached targets at the points that a camera sees"
    if config["network"].get("classifier") == "shared":
        said += "; the student reuses its classifier, which was not trained here"
    return f"{said}; the student had no other supervision (zero-shot)" if _zero_shot(config) else said


def _measured(miou: dict[str, Any], latency: dict[str, Any]) -> str:
    total, score = latency["phases"]["total"], f"**{100 * miou['miou']:.1f} % mIoU**"
    if unknown_classes(miou):
        known = f"over the {len(miou['known_classes'])} that its teacher knows"
        score += f" over all {len(miou['iou'])} classes, **{percent(miou['miou_known'])} %** {known},"
    scored = (
        f"{miou['scans']:,} whole scans of {miou['dataset']} ({miou['split']} sequences {', '.join(miou['sequences'])})"
    )
    verdict = "within" if total["p99"] <= latency["budget_ms"] else "not within"
    met = f"{100 * latency['within_budget']:.0f} % of {latency['scans']} scans met the budget of"
    budget = f"{latency['budget_ms']:.1f} ms ({latency['budget_hz']} Hz)"
    return f"""## Measured

{score} on {scored}.

{protocol(miou)}
Every labelled point counts. There is no test-time augmentation.

| class | IoU, % | points |
|---|---:|---:|
{chr(10).join(class_rows(miou))}

**{total["p50"]:.1f} ms per scan** at the median, {total["p99"]:.1f} ms at the 99th percentile, one scan at a time.
This is the time from points in memory to a label for every point. The median scan has
{latency["points_median"]:,} points.
Device: {latency["device"]}; precision: {latency["precision"]}.
{met} {budget}. The 99th percentile is {verdict} the budget.
"""


def _use(config: dict[str, Any]) -> str:
    experiment, scan = config["experiment"], "scan.pcd.bin" if _of_nuscenes(config) else "scan.bin"
    needs, points = "import numpy as np", f'np.fromfile("{scan}", np.float32).reshape(-1, 4)'
    if _of_nuscenes(config):
        needs = "from pathlib import Path\n    from elite_pipeline.deploy.nuscenes_files import read_scan"
        points = f'read_scan(Path("{scan}"), predict.classes)'
    return f"""## Use

    {needs}
    from elite_pipeline.student.model import Predictor

    predict = Predictor.load("models/{experiment}")
    points = {points}
    training_ids = predict(points)  # (N,) uint8

On the command line (this folder is all that it needs):

    elite-pipeline predict --model models/{experiment} {scan} --out labels/
"""


def _provenance(config: dict[str, Any], miou: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in config["versions"].items())
    return f"""## Provenance

| | |
|---|---|
| weights | `{WEIGHTS}`, sha256 `{miou["weights_sha256"]}` |
| parameters | {config["parameters"]:,} |
| trained with | commit {config["commit"] or "unknown"}; {versions} |
| scored with | commit {miou["commit"] or "unknown"}, on {miou["device"]} |

No licence is stated for the weights. Their terms of use depend on the data and the teacher that they were trained with.
"""
