"""The examples that join scans, labels and teacher targets."""

import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from elite_pipeline.config import Augmentation
from elite_pipeline.errors import InputError
from elite_pipeline.recordings.sequence import open_recorded
from elite_pipeline.training.examples import Examples, collate

AUGMENTATION = Augmentation(rotate=True, flip=True, scale=0.05, translate=0.1, drop=0.5)


@pytest.fixture
def examples(open_taught):
    return lambda taught, *names, features=False: Examples(open_taught(taught, *names), features=features)


def test_joins_labels_and_visible_teacher_targets_by_point(taught, examples, traced):
    found = examples(taught)
    assert len(found) == 3
    assert found.labelled == [0, 1]
    labelled_and_taught, hidden, unlabelled = (found[i] for i in range(3))
    rows = np.r_[0:40, 20:60][np.arange(80) % 5 > 0]
    assert labelled_and_taught.taught.tolist() == rows.tolist()  # points that both cameras see appear twice
    assert torch.equal(traced(labelled_and_taught.teacher), labelled_and_taught.taught)
    assert labelled_and_taught.teacher.shape[1:] == (4, 20)
    assert labelled_and_taught.labels.any()
    assert len(hidden.taught) == 0
    assert not unlabelled.labels.any()
    assert len(unlabelled.taught) == 32
    assert torch.equal(traced(unlabelled.teacher), unlabelled.taught % 251)


def test_teacher_targets_stay_with_their_points_through_augmentation_and_batching(taught, examples, traced):
    found = examples(taught)
    marked = [found[i] for i in (0, 2, 1)]
    for example in marked:
        example.points[:, 3] = torch.arange(500.0)  # augmentation keeps the remission, so it identifies the point
    changed = [e.augmented(AUGMENTATION, torch.Generator().manual_seed(i)) for i, e in enumerate(marked)]
    batch = collate(changed)
    assert len(batch.points) < 1500
    assert 0 < len(batch.taught) < sum(len(e.taught) for e in marked)
    assert torch.equal(batch.points[batch.taught, 3].long() % 251, traced(batch.teacher))
    for k, example in enumerate(marked):
        mine = batch.scan == k
        assert torch.equal(batch.labels[mine], example.labels[batch.points[mine, 3].long()])


def test_counts_labels_of_labelled_scans(taught, examples):
    found = examples(taught)
    assert found.label_counts().sum() == 1000
    raw = np.fromfile(taught["data"] / "sequences/00/labels/000000.label", np.uint32) & 0xFFFF
    other = np.fromfile(taught["data"] / "sequences/00/labels/000001.label", np.uint32) & 0xFFFF
    assert found.label_counts()[1] == np.isin([*raw, *other], (10, 252)).sum()


def test_without_a_teacher_only_labelled_scans_count(taught, examples):
    found = examples(taught, "frames")
    assert len(found) == 2
    assert len(found[0].taught) == 0


def test_the_digest_depends_on_the_metadata_of_the_stores(taught, examples):
    before = examples(taught).digest()
    assert before == examples(taught).digest()
    metadata = taught["targets"] / "zarr.json"
    metadata.write_text(metadata.read_text().replace('"provenance": {}', '"provenance": {"rank": 4}'))
    assert examples(taught).digest() != before


def named(batch):
    """For each target with a patch: the number of its patch, and the index of its point (from its remission)."""
    hit = batch.patch_of >= 0
    return 2 * batch.patches[batch.patch_of[hit], 0, 0], batch.points[batch.taught[hit], 3]


def test_patches_stay_with_their_points_through_augmentation_and_batching(taught, examples):
    found = examples(taught, features=True)
    marked = [found[i] for i in (2, 1, 0)]
    for example in marked:
        example.points[:, 3] = torch.arange(500.0)
        assert example.patches.shape[1:] == (4, 5)
    without = examples(taught)[0]
    assert (without.patch_of == -1).all()
    assert len(without.patches) == 0
    changed = [e.augmented(AUGMENTATION, torch.Generator().manual_seed(3 + i)) for i, e in enumerate(marked)]
    batch = collate([*changed[:2], without, changed[2]])
    assert 0 < len(batch.taught) < 96 + 64
    patch, point = named(batch)
    assert len(patch) < len(batch.taught)
    frame, camera, place = patch // 20, patch % 20 // 10, patch % 10
    assert torch.equal(place, point % 4)
    whose = batch.scan[batch.taught[batch.patch_of >= 0]]
    assert torch.equal(frame, torch.tensor([2.0, 1.0, -1.0, 0.0])[whose])
    # Seen by camera a, by camera b, and by both.
    first, second, both = ((whose == 3) & (camera == c) for c in (0, 1, 0))
    assert (point[first] < 40).all()
    assert ((point[second] >= 20) & (point[second] < 60)).all()
    assert set(point[both].tolist()) & set(point[second].tolist())
    assert not batch.patches[:, 3, 4].any()


def test_reading_features_that_are_not_cached_is_refused(taught, tmp_path, examples):
    group = taught["targets"]
    for name in ("point_patch", "patch_feature"):
        shutil.rmtree(group / name)
    metadata = group / "zarr.json"
    described = json.loads(metadata.read_text())
    described.pop("consolidated_metadata", None)
    metadata.write_text(json.dumps(described))
    assert len(examples(taught)[0].taught) == 64
    with pytest.raises(InputError, match=r"00\.targets holds no features: add them to cache_teacher\.targets"):
        examples(taught, features=True)
    assert len(examples(taught, "frames", features=True)) == 2  # without a teacher, no features are needed


def test_class_counts_of_the_teacher_are_summed_over_all_sequences(taught, open_taught):
    whole = open_taught(taught, times=2)
    assert torch.equal(Examples(whole).answer_counts(), torch.full((20,), 2 * 130 / 20, dtype=torch.float64))
    assert Examples(whole).labelled == [0, 1, 3, 4]


def test_a_data_set_without_labels_and_teacher_targets_is_refused(taught, examples):
    table = pq.read_table(taught["frames"])
    column = table.column_names.index("labelled")
    pq.write_table(table.set_column(column, "labelled", pa.array([False] * 3)), taught["frames"])
    assert [f for _, f in examples(taught).items] == [0, 1, 2]
    with pytest.raises(InputError, match="no training scan has labels"):
        examples(taught, "frames")


def test_the_classifier_must_come_from_one_teacher(image_taught, rewrite_targets, examples, open_taught):
    one = examples(image_taught)
    assert one.taught_classes() == ["car", "road", "building"]
    twice = Examples(open_taught(image_taught, times=2))
    assert all(torch.equal(a, b) for a, b in zip(one.classifier(), twice.classifier(), strict=True))
    other = image_taught["targets"].with_name("other")
    shutil.copytree(image_taught["targets"], other)
    rewrite_targets(other, classifier_weight=2 * one.classifier()[0].numpy()[None])
    both = {name: [image_taught[name]] * 2 for name in ("frames", "projection")}
    with pytest.raises(InputError, match="no classifier to share, or several"):
        Examples(open_recorded(image_taught["data"], **both, targets=[image_taught["targets"], other])).classifier()
    rewrite_targets(image_taught["targets"], classifier_weight=None, classifier_bias=None)
    with pytest.raises(InputError, match="no classifier to share"):
        examples(image_taught).classifier()
    assert len(examples(image_taught).taught_classes()) == 19  # the targets list none, so all are returned


def test_reads_aggregated_soft_labels_and_the_carried_labels_of_unlabelled_scans(carried_taught, examples):
    found = examples(carried_taught)
    assert found.labelled == [0, 1]
    assert [len(found[i].reached) for i in range(3)] == [100, 0, 200]
    assert [len(found[i].carried) for i in range(3)] == [0, 0, 150], "a labelled scan has its own labels"
    last = found[2]
    assert len(last.taught) == 32
    assert torch.equal(last.aggregated[:, 0].long(), last.reached % 19 + 1)
    assert torch.equal(last.carried_label, last.carried % 3 + 1)
    torch.testing.assert_close(last.carried_weight, last.carried % 250 / 255)
    assert torch.equal(found.aggregated_counts(), torch.arange(20.0, dtype=torch.float64))


def test_both_stay_with_their_points_through_augmentation_and_batching(carried_taught, examples):
    found = examples(carried_taught)
    marked = [found[i] for i in (0, 2, 1, 2)]
    for example in marked:
        example.points[:, 3] = torch.arange(500.0)
    batch = collate([e.augmented(AUGMENTATION, torch.Generator().manual_seed(i)) for i, e in enumerate(marked)])
    assert 200 < len(batch.reached) < 500
    assert 100 < len(batch.carried) < 300
    reached, carried = (batch.points[indices, 3].long() for indices in (batch.reached, batch.carried))
    assert torch.equal(batch.aggregated[:, 0].long(), reached % 19 + 1)
    assert torch.equal(batch.aggregated[:, 4].long(), reached % 200)
    assert torch.equal(batch.carried_label, carried % 3 + 1)
    torch.testing.assert_close(batch.carried_weight, carried % 250 / 255)
    assert batch.scan[batch.carried].unique().tolist() == [1, 3]


def test_own_frame_targets_are_left_out_where_no_loss_reads_them(carried_taught, open_taught):
    alone = Examples(open_taught(carried_taught), own_frame=False)
    assert [len(alone[i].taught) for i in range(3)] == [0, 0, 0]
    assert [len(alone[i].reached) for i in range(3)] == [100, 0, 200]


def test_a_scan_with_carried_labels_alone_counts(carried_taught, examples):
    assert [f for _, f in examples(carried_taught, "frames").items] == [0, 1]
    assert [f for _, f in examples(carried_taught, "frames", "carried").items] == [0, 1, 2]
    assert [f for _, f in examples(carried_taught, "frames", "aggregated").items] == [0, 1, 2]


def test_scans_with_neither_labels_nor_targets_are_included_on_request(taught, unlabelled, open_taught, examples):
    silent = Examples(open_taught(taught), unlabelled=True)
    assert [f for _, f in silent.items] == [0, 1, 2]
    with pytest.raises(InputError, match="no training scan has labels"):
        Examples(open_taught(unlabelled, "frames"), unlabelled=True)


def test_a_silent_scan_has_points_and_nothing_to_learn(taught, open_taught):
    silent = Examples(open_taught(taught, "frames"), unlabelled=True)
    assert (len(silent), silent.labelled) == (3, [0, 1])
    last = silent[2]
    assert len(last.points) == 500
    assert not last.labels.any()
    assert len(last.taught) == len(last.reached) == len(last.carried) == 0
