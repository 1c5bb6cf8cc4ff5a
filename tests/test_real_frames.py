"""The paper's student at full size, on real frames."""

from pathlib import Path

import numpy as np
import torch

from elite_pipeline.config import read
from elite_pipeline.datasets.classes import IGNORE
from elite_pipeline.student.model import Predictor, build
from elite_pipeline.student.network import parameters
from elite_pipeline.training import objective
from elite_pipeline.training.examples import Example, collate
from elite_pipeline.training.losses import class_weights

ROOT = Path(__file__).parent.parent


def test_elite_trains_on_and_labels_whole_real_scans(sample, open_drive, classes):
    """One scan of about 124,000 points goes through every loss and backward. Every point of another gets a label."""
    settings = read(ROOT / "config.yaml").students["elite"]
    torch.manual_seed(0)
    student = build(settings.network, len(classes))
    assert parameters(student) == 1_933_460
    recording = open_drive(sample / "sequences/00")
    points = recording.points("000000")
    labels = torch.from_numpy(recording.labels("000000", len(points)).astype(np.int64))
    assert len(points) > 120_000
    # A made-up teacher that is certain of every tenth point's label, because there are no targets for real frames here.
    taught = torch.arange(0, len(points), 10)
    answers = torch.nn.functional.one_hot(labels[taught], len(classes)).float()[:, None].expand(-1, 4, -1) * 5
    nothing = torch.zeros(len(points), dtype=torch.int64)
    no_patch = torch.full((len(taught),), -1), torch.zeros(0, 4, 0)
    batch = collate([Example(torch.from_numpy(points.copy()), labels, taught, answers, nothing, *no_patch)])
    counts = torch.bincount(labels, minlength=len(classes))
    learner = objective.SegmentationLearner(student, len(classes)).train()
    output = learner(batch.points, batch.scan, batch.scans)
    weights = objective.ClassWeights(class_weights(counts), None)
    loss, parts = objective.total_loss(output, batch, student, weights, settings.losses)
    loss.backward()
    assert all(value > 0 for value in parts.values())
    assert all(p.grad is not None and p.grad.isfinite().all() for p in learner.parameters())

    other = recording.points("000001")
    prediction = Predictor(student, {"classes": classes.to_json()}, device="cpu")(other)
    assert prediction.shape == (len(other),)
    assert not (prediction == IGNORE).any()
    low, high = np.array(settings.network.volume).T
    outside = ((other[:, :3] < low) | (other[:, :3] >= high)).any(axis=1)
    assert outside.any()  # points outside the volume have a label too
