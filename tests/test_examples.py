"""The reader that joins scans, labels and the teacher's answers."""

import numpy as np
import pytest
import torch

from elite_pipeline.config import Augmentation
from elite_pipeline.errors import InputError
from elite_pipeline.examples import Examples, collate, open_recorded

AUGMENTATION = Augmentation(rotate=True, flip=True, scale=0.05, translate=0.1, drop=0.5)


def examples(taught, *names):
    return Examples(open_recorded(*([taught[name]] for name in names or taught)))


def test_joins_labels_and_visible_answers_by_point(taught):
    found = examples(taught)
    assert len(found) == 3
    assert found.labelled == 2
    labelled_and_taught, hidden, unlabelled = (found[i] for i in range(3))
    rows = np.r_[0:40, 20:60][np.arange(80) % 5 > 0]
    assert labelled_and_taught.taught.tolist() == rows.tolist()  # points that both cameras see are there twice
    assert (labelled_and_taught.teacher == labelled_and_taught.taught[:, None, None]).all()
    assert labelled_and_taught.teacher.shape[1:] == (4, 20)
    assert labelled_and_taught.labels.any()
    assert len(hidden.taught) == 0
    assert not unlabelled.labels.any()
    assert len(unlabelled.taught) == 32


def test_answers_stay_with_their_points_through_augmentation_and_batching(taught):
    found = examples(taught)
    marked = [found[i] for i in (0, 2, 1)]
    for example in marked:
        example.points[:, 3] = torch.arange(500.0)  # remission is left alone: it tells the point
    changed = [e.augmented(AUGMENTATION, torch.Generator().manual_seed(i)) for i, e in enumerate(marked)]
    batch = collate(changed)
    assert len(batch.points) < 1500
    assert 0 < len(batch.taught) < sum(len(e.taught) for e in marked)
    assert torch.equal(batch.points[batch.taught, 3], batch.teacher[:, 0, 0])
    for k, example in enumerate(marked):
        mine = batch.scan == k
        assert torch.equal(batch.labels[mine], example.labels[batch.points[mine, 3].long()])


def test_counts_labels_of_labelled_scans(taught):
    found = examples(taught)
    assert found.label_counts().sum() == 1000
    raw = np.fromfile(taught["sequences"] / "labels/000000.label", np.uint32) & 0xFFFF
    other = np.fromfile(taught["sequences"] / "labels/000001.label", np.uint32) & 0xFFFF
    assert found.label_counts()[1] == np.isin([*raw, *other], (10, 252)).sum()


def test_without_a_teacher_only_labelled_scans_count(taught):
    found = examples(taught, "sequences", "frames")
    assert len(found) == 2
    assert len(found[0].taught) == 0


def test_digest_follows_the_stores_metadata(taught):
    before = examples(taught).digest()
    assert before == examples(taught).digest()
    metadata = taught["targets"] / "zarr.json"
    metadata.write_text(metadata.read_text().replace('"provenance": {}', '"provenance": {"rank": 4}'))
    assert examples(taught).digest() != before


def test_faults_are_told_with_their_file(taught):
    with pytest.raises(InputError, match="--frames names 2 files for 1"):
        open_recorded([taught["sequences"]], [taught["frames"]] * 2)
    with pytest.raises(InputError, match="go together"):
        open_recorded([taught["sequences"]], [taught["frames"]], [taught["projection"]])
    with pytest.raises(InputError, match="targets"):
        open_recorded(*([path] for path in {**taught, "targets": taught["projection"]}.values()))
    scan = taught["sequences"] / "velodyne/000000.bin"
    scan.write_bytes(scan.read_bytes()[:-16])
    with pytest.raises(InputError, match="499 points, but 500"):
        _ = examples(taught)[0]


def test_damaged_answers_are_an_error_and_no_number(taught):
    (chunk,) = (path for path in (taught["targets"] / "logits/c").rglob("*") if path.is_file())
    data = bytearray(chunk.read_bytes())
    data[100] ^= 0xFF
    chunk.write_bytes(data)
    with pytest.raises(InputError, match="damaged"):
        _ = examples(taught)[0]
