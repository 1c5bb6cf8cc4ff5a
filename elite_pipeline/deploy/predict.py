"""Predict scans and write their labels: a user's own files, and recorded sequences."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from elite_pipeline.choices import LABEL_FILES
from elite_pipeline.deploy.formats import LabelFiles, Layout, PredictedScan, label_files_of
from elite_pipeline.errors import InputError
from elite_pipeline.progress import progress
from elite_pipeline.recordings.sequence import Recorded
from elite_pipeline.student.model import Predictor


def label_paths(inputs: Iterable[Path], out: Path, files: LabelFiles) -> dict[Path, Path]:
    """Return {label file: scan} for `inputs`, which are scans and folders of them; sorted within each input.

    Label files go under the folder `out`. With SemanticKITTI's `files`, scan.bin becomes scan.label, and run/scan.bin
    in a folder becomes run/scan.label. `files.of_folder` says where the scans of a sequence go.
    Raises `InputError` where two scans would share a label file, where an input is not or does not contain a scan, or
    where `out` is the `labels` folder of a recorded sequence.
    """
    if out.name == "labels" and (out.parent / "velodyne").is_dir():
        raise InputError(f"{out} holds the labels of the recorded sequence {out.parent}. Choose another --out.")
    scans = {}
    for given in inputs:
        for scan, place in _scans_of(given, files):
            path = (out / place).with_name(place.name.removesuffix(files.scan_ending) + files.label_ending)
            if scans.setdefault(path, scan).resolve() != scan.resolve():
                raise InputError(
                    f"{scans[path]} and {scan} would both be written to {path}."
                    " Give the folder that contains both, or write one of them to another --out."
                )
    return scans


def _scans_of(given: Path, files: LabelFiles) -> list[tuple[Path, Path]]:
    """Return [(scan, its path under --out)] of one file or folder.

    Raises `InputError` where `given` is not or does not contain a scan.
    """
    ending = files.scan_ending
    # A nuScenes scan, x.pcd.bin, also ends in .bin, but a model of SemanticKITTI would read nonsense from it.
    others = {other for other in map(_scan_ending, LABEL_FILES) if other != ending and other.endswith(ending)}

    def is_scan(path: Path) -> bool:
        return path.is_file() and path.name.endswith(ending) and not any(map(path.name.endswith, others))

    if not given.is_dir():
        if not is_scan(given):
            raise InputError(
                f"{given}: neither a folder nor a {ending} file, which are the scans of this model. Check the path, or"
                " convert the scan (see --help)."
            )
        return [(given, Path(given.name))]
    folder, place = files.of_folder(given)
    scans = sorted(path for path in folder.rglob(f"*{ending}") if is_scan(path))
    if not scans:
        raise InputError(
            f"{folder}: no {ending} file in this folder or below. Give the folder that contains the scans."
        )
    return [(scan, place / scan.relative_to(folder)) for scan in scans]


def _scan_ending(format: str) -> str:
    return label_files_of(format).scan_ending


def recorded_layout(predict: Predictor, recordings: Sequence[Recorded], model: Path, paths: Sequence[Path]) -> Layout:
    """Return where the predictions of all scans of `recordings` lie, by their format.

    model: the student's folder. paths: of the indices. Both are for messages.

    Raises `InputError` where class tables differ, or the official tools of the format take other sequences.
    """
    for path, recorded in zip(paths, recordings, strict=True):
        predict.classes.check_same(recorded.index.classes, model, path)
    scans = [
        PredictedScan(recorded.index.sequence, frame, int(points), recorded.recording.record(frame))
        for recorded in recordings
        for frame, points in zip(recorded.index.frames, recorded.index.points, strict=True)
    ]
    return _files_of(recordings).layout(scans, predict.classes, predict.config)


def predicted(
    predict: Predictor, recordings: Sequence[Recorded], layout: Layout, label: str
) -> Iterator[tuple[str, np.ndarray]]:
    """Yield (path in `layout`, array as its file has it) of every scan of `recordings`. label: of the progress.

    Raises `InputError` where a scan is damaged.
    """
    encode = _files_of(recordings).encode
    scans = [(recorded, f) for recorded in recordings for f in range(len(recorded.index.frames))]
    for recorded, f in progress(scans, label=label, unit="scan"):
        name = layout.names[recorded.index.sequence, recorded.index.frames[f]]
        yield name, encode(predict(recorded.points(f)), predict.classes)


def _files_of(recordings: Sequence[Recorded]) -> LabelFiles:
    return label_files_of(recordings[0].index.source.format)
