"""Labelled presentations are the labelled scans that the batches really hold."""

import pytest

from elite_pipeline.training.examples import Examples
from elite_pipeline.training.presentations import labelled_presentations
from elite_pipeline.training.sampling import draw


@pytest.mark.parametrize("share", [None, 0.5, 0.25])
@pytest.mark.parametrize("labels", [True, False])
@pytest.mark.parametrize(("steps", "processes"), [(1, 1), (4, 1), (5, 2)])
def test_counts_the_labelled_scans_of_all_batches(
    taught, open_taught, student_settings, share, labels, steps, processes
):
    """Of each sequence's three scans two are labelled. Every labelled scan has points of known classes."""
    settings = student_settings.train_student.model_copy(update={"labelled_share": share, "batch": 4, "seed": 5})
    examples = Examples(open_taught(taught, times=3, labels=labels))
    assert (len(examples), len(examples.labelled)) == (9, 6 if labels else 0)
    seen = 0
    for k in range(steps * processes):
        batch = draw(examples, student_settings.augmentation, settings, 4 * k)
        seen += sum(bool((batch.labels[batch.scan == scan] > 0).any()) for scan in range(batch.scans))
    assert labelled_presentations(examples, settings, steps, processes) == seen


def test_all_scans_labelled(taught, open_taught, student_settings):
    examples = Examples(open_taught(taught, "frames"))  # without a teacher unlabelled scans are left out
    assert len(examples) == len(examples.labelled) == 2
    assert labelled_presentations(examples, student_settings.train_student.model_copy(update={"batch": 3}), 7, 2) == 42
