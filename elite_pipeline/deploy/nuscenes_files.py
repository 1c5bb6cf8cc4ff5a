"""nuScenes-lidarseg's files of predictions: one uint8 per point, the class 1 to 16 of the challenge.

The folder that nuscenes-devkit evaluates and validates, and whose content the test server takes as a zip:

    lidarseg/<split>/<token>_lidarseg.bin   token: of the LIDAR_TOP keyframe (`sample_data`); one file for each
    <split>/submission.json                 what the method uses, as five booleans
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from elite_pipeline.choices import FORMATS, load
from elite_pipeline.datasets.classes import ClassTable
from elite_pipeline.datasets.nuscenes import challenge_classes
from elite_pipeline.datasets.nuscenes_splits import SPLITS
from elite_pipeline.deploy.formats import LabelFiles, Layout, PredictedScan, check_finite
from elite_pipeline.errors import InputError


def declared(config: Mapping[str, Any]) -> dict[str, bool]:
    """Return `meta` of submission.json for the student whose config.json is `config`.

    The challenge counts the sensors that are used at test time: here the LiDAR alone. Masks of other images are
    external data, even in pre-training. The published weights of image networks rest on such data, so a student that
    learnt from a teacher, or began with a pre-trained backbone, declares them.
    """
    external = bool(config["taught"] or config["pretrained"])
    return {"use_camera": False, "use_lidar": True, "use_radar": False, "use_map": False, "use_external": external}


def official_split(scenes: Sequence[str]) -> str:
    """Return the official split that has exactly these scenes. Raises `InputError` where there is none."""
    given = set(scenes)
    for split, wanted in SPLITS.items():
        if given == set(wanted):
            return split
    nearest = max(SPLITS, key=lambda split: len(given & set(SPLITS[split])) / len(given | set(SPLITS[split])))
    missing, strange = sorted(set(SPLITS[nearest]) - given), sorted(given - set(SPLITS[nearest]))
    faults = [f"{_some(scenes)} {said}" for scenes, said in ((missing, "missing"), (strange, "too many")) if scenes]
    raise InputError(
        f"nuScenes' tools take the scenes of one official split ({', '.join(SPLITS)}), and these {len(given)} are none."
        f" The nearest is {nearest}: {'; '.join(faults)}. Write the name of the split in config.yaml, as in"
        f" test: {nearest}"
    )


def _some(scenes: Sequence[str]) -> str:
    return ", ".join(scenes[:3]) + (f" and {len(scenes) - 3} more are" if len(scenes) > 3 else " are")


def read_scan(path: Path, classes: ClassTable) -> np.ndarray:
    """Return the points of a `.pcd.bin` file as the pipeline reads recorded ones: (N, 4) float32, axes turned to ours.

    Raises `InputError` where the file is unreadable or truncated, or where a number is not finite.
    """
    recording = load(FORMATS["nuscenes"].recording)(path.parent, "", classes, {}, {"scan": {"scan": path.name}})
    return check_finite(path, recording.points("scan"))


def encode(training_ids: np.ndarray, classes: ClassTable) -> np.ndarray:
    """Return the classes of the challenge, which are the training ids (N,) uint8. Raises `InputError` for other tables.

    The tools refuse a prediction of 0. A student never predicts it.
    """
    challenge = challenge_classes()
    if classes.evaluated != challenge:
        raise InputError(
            f"the student has the classes {', '.join(classes.evaluated)} ({classes.name}), but nuScenes' files of"
            f" predictions have {', '.join(challenge)}. Train a student on a data set with classes: nuscenes"
        )
    return np.asarray(training_ids, np.uint8)


def layout(scans: Sequence[PredictedScan], classes: ClassTable, config: Mapping[str, Any]) -> Layout:
    """Return where the predictions of `scans` lie: one file per keyframe.

    Raises `InputError` where the scenes are no official split, the student has other classes, or tokens are wrong.
    """
    split = official_split([scan.sequence for scan in scans])
    encode(np.zeros(0, np.uint8), classes)
    names, sizes = {}, {}
    for scan in scans:
        token = (scan.record or {}).get("token")
        name = f"lidarseg/{split}/{token}_lidarseg.bin"
        if not token or name in sizes:
            raise InputError(
                f"{scan.sequence}, frame {scan.frame}: its token {token!r} is missing or that of another keyframe."
                " Delete tables/ and frames/ of this data set in cache/, and run snakemake again"
            )
        names[scan.sequence, scan.frame], sizes[name] = name, scan.points
    meta = json.dumps({"meta": declared(config)}, indent=2) + "\n"
    return Layout(names, sizes, others={f"{split}/submission.json": meta.encode()})


FILES = LabelFiles(".pcd.bin", "_lidarseg.bin", read_scan, encode, layout)
