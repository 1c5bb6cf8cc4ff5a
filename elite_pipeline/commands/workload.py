"""The work of a job: the number of frames, images or scans, and the settings that determine the time for each."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from elite_pipeline.config import Config, Dataset, EncoderSettings, Schedule, StudentSettings
from elite_pipeline.config.seeds import entry
from elite_pipeline.errors import InputError

Words = dict[str, str]


@dataclass(frozen=True)
class Workload:
    """The work of one job."""

    amount: float
    unit: str
    """frame, image, scan, or job where the time does not grow with the data."""
    like: dict[str, Any] = field(default_factory=dict)
    """Settings, such as the encoder. A rate holds for equal settings only."""
    points: int = 0
    """Points of a scan; 0 where not known."""
    pixels: int = 0
    """Pixels of an image; 0 where not known."""


class Workloads:
    """The work of every job of a configuration, in the folder where its data lie."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self._sequence = cache(self._read_sequence)

    def of(self, rule: str, wildcards: Words) -> Workload:
        """The work of a job. A rule without an entry in `_RULES` counts frames if it makes one sequence, else jobs.

        Raises `InputError` where the configuration no longer has what the wildcards name.
        """
        try:
            if rule in _RULES:
                return _RULES[rule](self, wildcards)
            if "sequence" in wildcards and "dataset" in wildcards:
                return self._frames(wildcards, [wildcards["sequence"]])
            return Workload(1, "job")
        except KeyError as error:
            raise InputError(f"config.yaml has no {error}, which a job of {rule} names") from None

    def dataset(self, wildcards: Words) -> Dataset:
        """The data set of a job, also where it names an experiment."""
        return self.config.datasets[self._dataset_name(wildcards)]

    def student(self, wildcards: Words) -> StudentSettings:
        """The student of a job's experiment or pre-training."""
        if "pretraining" in wildcards:
            return self.config.students[self.config.pretrainings[entry(wildcards["pretraining"])].student]
        return self.config.students[self.config.experiments[entry(wildcards["experiment"])].student]

    def _dataset_name(self, wildcards: Words) -> str:
        if "dataset" in wildcards:
            return entry(wildcards["dataset"])
        if "pretraining" in wildcards:
            return self.config.pretrainings[entry(wildcards["pretraining"])].dataset
        return self.config.experiments[entry(wildcards["experiment"])].dataset

    def _read_sequence(self, name: str, sequence: str) -> tuple[int, int, int]:
        """(frames, points of a scan, pixels of an image) of a sequence; 0 where it is not known yet."""
        dataset = self.config.datasets[name]
        if (drive := dataset.simulate_drive) is not None:
            return drive.frames, drive.beams * drive.columns, drive.image_width * drive.image_height
        from elite_pipeline.datasets import open_recording

        root = Path("data", dataset.of or name)
        recording = open_recording(root, sequence, dataset.format, dataset.class_table, dataset.cameras)
        frames = recording.frames()
        if not frames:
            return 0, 0, 0
        points = len(recording.points(frames[0]))
        pictured = next(((f, c) for f in frames for c in dataset.cameras if recording.has_image(f, c)), None)
        if pictured is None:
            return len(frames), points, 0
        height, width = recording.image(*pictured).shape[:2]
        return len(frames), points, height * width

    def _size(self, wildcards: Words, sequences: list[str]) -> tuple[int, int, int]:
        """(frames of all `sequences`, points of a scan, pixels of an image)."""
        name = self._dataset_name(wildcards)
        read = [self._sequence(name, sequence) for sequence in sequences]
        return sum(r[0] for r in read), max(r[1] for r in read), max(r[2] for r in read)

    def _frames(self, wildcards: Words, sequences: list[str], like: dict[str, Any] | None = None) -> Workload:
        frames, points, _ = self._size(wildcards, sequences)
        return Workload(frames, "frame", like or {}, points=points)

    def _images(self, wildcards: Words, like: dict[str, Any] | None = None, by_points: bool = False) -> Workload:
        """Every camera's images of the job's sequence."""
        frames, points, pixels = self._size(wildcards, [wildcards["sequence"]])
        images = frames * len(self.dataset(wildcards).cameras)
        sizes = {"points": points} if by_points else {"pixels": pixels}
        return Workload(images, "image", like or {}, **sizes)

    def _simulate_drive(self, wildcards: Words) -> Workload:
        frames, points, pixels = self._size(wildcards, [wildcards["sequence"]])
        drive = self.dataset(wildcards).simulate_drive
        cameras = {"surround": drive is not None and drive.surround}
        return Workload(frames, "frame", cameras, points=points, pixels=pixels)

    def _simulate_images(self, wildcards: Words) -> Workload:
        images = self.config.image_sets[wildcards["images"]].simulate_images
        if images is None:
            return Workload(0, "image")
        return Workload(
            images.worlds * images.views_per_world, "image", pixels=images.image_width * images.image_height
        )

    def _label_images(self, wildcards: Words) -> Workload:
        labels = self.dataset(wildcards).label_images
        sam = labels.sam if "sam" in labels.sections(labels.labeller) else None
        return self._images(wildcards, {"labeller": labels.labeller, **_encoder(sam)})

    def _tune_teacher(self, wildcards: Words) -> Workload:
        teacher = self.config.teachers[wildcards["teacher"]]
        tuning = teacher.tune_teacher
        if not tuning.steps:
            frames, _, _ = self._size(wildcards, self.dataset(wildcards).train)
            return Workload(
                frames * len(self.dataset(wildcards).cameras), "image", {"frozen": True, **_encoder(teacher)}
            )
        method = {"peft": teacher.peft.method}
        return Workload(tuning.steps * (tuning.batch or 1), "image", {**method, **_encoder(teacher)})

    def _cache_teacher(self, wildcards: Words) -> Workload:
        teacher = self.config.teachers[wildcards["teacher"]]
        like = {"targets": list(teacher.cache_teacher.targets), **_encoder(teacher)}
        images = self._images(wildcards, like, by_points=True)
        return replace(images, amount=images.amount * len(teacher.cache_teacher.views))

    def _training(self, wildcards: Words, schedule: Schedule, like: dict[str, Any]) -> Workload:
        """Scans that the optimiser sees."""
        frames, points, _ = self._size(wildcards, self.dataset(wildcards).train)
        steps = schedule.steps if schedule.steps is not None else (schedule.epochs or 0) * -(-frames // schedule.batch)
        like = {**like, "precision": schedule.precision, "processes": schedule.processes, **self._network(wildcards)}
        beside = schedule.unlabelled if self.dataset(wildcards).labelled not in (0, 1) else 0
        return Workload(steps * (schedule.batch + beside), "scan", like, points=points)

    def _train_student(self, wildcards: Words) -> Workload:
        taught = self.config.experiments[entry(wildcards["experiment"])].teacher is not None
        return self._training(wildcards, self.student(wildcards).train_student, {"taught": taught})

    def _pretrain_student(self, wildcards: Words) -> Workload:
        chosen = self.config.pretrainings[entry(wildcards["pretraining"])]
        return self._training(wildcards, chosen.pretrain_student, {"level": chosen.contrast.level})

    def _evaluate_miou(self, wildcards: Words) -> Workload:
        dataset = self.dataset(wildcards)
        scored = dataset.test if wildcards.get("test") else dataset.val
        found = self._frames(wildcards, scored, self._network(wildcards))
        votes = self.config.evaluate_miou.votes if wildcards.get("tta") else 1
        return Workload(found.amount * votes, "scan", found.like, points=found.points)

    def _predicting(self, wildcards: Words, split: str) -> Workload:
        return self._frames(wildcards, getattr(self.dataset(wildcards), split), self._network(wildcards))

    def _measure_latency(self, wildcards: Words) -> Workload:
        of = self.config.measure_latency
        _, points, _ = self._size(wildcards, self.dataset(wildcards).val)
        like = {"precision": of.precision, **self._network(wildcards)}
        return Workload(of.warmup + of.scans, "scan", like, points=points)

    def _evaluate_pseudo_labels(self, wildcards: Words) -> Workload:
        _, _, pixels = self._size(wildcards, self.dataset(wildcards).train)
        like = _encoder(self.dataset(wildcards).label_images.sam)
        return Workload(self.config.evaluate_pseudo_labels.frames, "frame", like, pixels=pixels)

    def _network(self, wildcards: Words) -> dict[str, Any]:
        return {"network": json.loads(self.student(wildcards).network.model_dump_json())}


def _encoder(settings: EncoderSettings | None) -> dict[str, Any]:
    """The settings that determine the time of an encoder's pass."""
    if settings is None:
        return {}
    return {key: getattr(settings, key) for key in ("encoder", "longest_side", "precision")}


_RULES: dict[str, Callable[[Workloads, Words], Workload]] = {
    "simulate_drive": Workloads._simulate_drive,
    "simulate_images": Workloads._simulate_images,
    "simulate_tables": lambda self, words: Workload(1, "job"),
    "index_frames": lambda self, words: self._frames(words, [words["sequence"]]),
    "select_labels": lambda self, words: Workload(1, "job"),
    "keep_labels": lambda self, words: Workload(1, "job"),
    "project_points": lambda self, words: self._images(words, by_points=True),
    "segment_images": lambda self, words: self._images(words),
    "label_images": Workloads._label_images,
    "tune_teacher": Workloads._tune_teacher,
    "tune_image_teacher": Workloads._tune_teacher,
    "cache_teacher": Workloads._cache_teacher,
    "evaluate_teacher": lambda self, words: self._frames(words, self.dataset(words).train),
    "evaluate_carried_labels": lambda self, words: self._frames(words, self.dataset(words).train),
    "calibrate_targets": lambda self, words: self._frames(words, self.dataset(words).train),
    "evaluate_pseudo_labels": Workloads._evaluate_pseudo_labels,
    "pretrain_student": Workloads._pretrain_student,
    "train_student": Workloads._train_student,
    "evaluate_miou": Workloads._evaluate_miou,
    "measure_latency": Workloads._measure_latency,
    "predict_scans": lambda self, words: self._predicting(words, "val"),
    "write_submission": lambda self, words: self._predicting(words, "test"),
}
"""Rule -> its work."""
