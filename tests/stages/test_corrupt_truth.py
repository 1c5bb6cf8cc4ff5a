"""corrupt_truth: a targets store that readers use like a teacher's, with the stated accuracy."""

from pathlib import Path

import numpy as np
import pytest
import torch

from elite_pipeline import store
from elite_pipeline.errors import InputError
from elite_pipeline.evaluation import oracle
from elite_pipeline.recordings import index
from elite_pipeline.soft_labels import decode
from elite_pipeline.stages import corrupt_truth, index_frames, project_points

LAYOUT = ['format="semantickitti"', 'classes="semantickitti"', 'cameras={"image_2": "P2"}']
RULE = ["project_points.min_depth=0.5", "project_points.cell=2.5", "project_points.tolerance=0.1"]


@pytest.fixture(scope="module")
def simulated(simulated_drive, tmp_path_factory):
    """Return words for the folder, index and projection of the simulated drive."""
    folder = tmp_path_factory.mktemp("simulated")
    given, frames = ["--data", str(simulated_drive.parents[1])], ["--frames", str(folder / "00.parquet")]
    needs = ["missing_images=false", "labels=true", "images=true"]
    index_frames.main([*given, "--sequence", "00", "--out", frames[1], *LAYOUT, *needs])
    project_points.main([*given, *frames, "--out", str(folder / "00.zarr"), *RULE])
    return [*given, *frames, "--projection", str(folder / "00.zarr")]


def corrupt(given, out, accuracy=0.8, seed=0):
    corrupt_truth.main([*given, "--out", str(out), f"accuracy={accuracy}", f"seed={seed}"])
    return store.open_store(out, "targets")


def truth(given, open_drive):
    """Return (labels, instances, visible) of all rows of the projection store."""
    recording, projection = open_drive(Path(given[1]) / "sequences/00"), store.Projection(given[5])
    labels, instances = [], []
    for f, frame in enumerate(projection.frames):
        point, count = projection.read("point", projection.frame_rows(f)), len(recording.points(frame))
        labels.append(recording.labels(frame, count)[point])
        instances.append(recording.instances(frame, count)[point])
    return np.concatenate(labels), np.concatenate(instances), projection.read("visible", slice(None))


@pytest.mark.parametrize("accuracy", [0.6, 0.8, 1.0])
def test_visible_points_have_the_stated_accuracy(simulated, tmp_path, accuracy, capsys, open_drive, check_compact):
    group = corrupt(simulated, tmp_path / "targets.zarr", accuracy)
    soft_label = store.read(group, "soft_label")
    labels, instances, visible = truth(simulated, open_drive)
    assert (soft_label.shape, soft_label.dtype) == ((len(labels), 4, 8), np.uint8)
    assert (soft_label == soft_label[:, :1]).all()
    answers = soft_label[:, 0, 0]
    known = visible & (labels > 0)
    assert known.sum() > 10_000
    assert (answers[known] == labels[known]).mean() == pytest.approx(accuracy, abs=0.02)
    assert f"accuracy {(answers[known] == labels[known]).mean():.3f}" in capsys.readouterr().out

    predicted = np.where(labels > 0, answers, 0)
    check_compact(soft_label, oracle.logits(predicted, accuracy, 20))
    odds = np.exp(oracle.logits(predicted[visible], accuracy, 20).astype(np.float64))
    assert np.allclose(store.read(group, "mass"), (odds / odds.sum(2, keepdims=True)).sum(0), rtol=1e-4)
    assert group.attrs["oracle"] == {"accuracy": accuracy, "seed": 0}
    assert "never a result of a method" in str(group.attrs["note"])
    assert {"sequence", "frames", "provenance", "cameras", "classes", "stages"} <= set(group.attrs)

    # A wrong thing has one wrong class in all frames. Other things have single wrong points.
    wrong_things = 0
    for thing in np.unique(instances[instances > 0]):
        rows = instances == thing
        label, (values, counts) = labels[rows][0], np.unique(answers[rows], return_counts=True)
        if values[counts.argmax()] != label and len(answers[rows]) > 9:
            wrong_things += 1
            assert len(values) == 1
    assert wrong_things >= (3 if accuracy < 1 else 0)


def test_the_same_seed_gives_the_same_bytes(simulated, tmp_path):
    for name, seed in (("one", 0), ("again", 0), ("other", 1)):
        corrupt(simulated, tmp_path / name, seed=seed)
    shards = {
        name: [p.read_bytes() for p in sorted((tmp_path / name / "soft_label").rglob("c/**/*")) if p.is_file()]
        for name in ("one", "again", "other")
    }
    assert shards["one"] == shards["again"]
    assert shards["one"] != shards["other"]


def test_students_read_it_like_a_teachers_targets(simulated, tmp_path):
    from elite_pipeline.recordings.sequence import open_recorded
    from elite_pipeline.training.examples import Examples

    group = corrupt(simulated, tmp_path / "targets.zarr")
    data, frames, projection = simulated[1::2]
    examples = Examples(open_recorded(data, [frames], [projection], [tmp_path / "targets.zarr"]))
    assert len(examples) == 4
    example, projection = examples[2], store.Projection(projection)
    visible = projection.read("visible", projection.frame_rows(2))
    expected = store.read(group, "soft_label", projection.frame_rows(2))[visible]
    assert torch.equal(example.teacher, decode(torch.from_numpy(expected), 20))
    assert (example.taught.numpy() == projection.read("point", projection.frame_rows(2))[visible]).all()


def test_a_killed_run_is_resumed(simulated, check_resume):
    """Four frames; the run is killed in the third."""
    counted = "elite_pipeline.evaluation.oracle:logits"
    command = [*simulated, "accuracy=0.8", "seed=0"]
    check_resume("corrupt_truth", command, counted, 3, "corrupt_truth 00 resumes at frame 2 of 4", calls=2)


def test_an_unlabelled_scan_is_refused(simulated, tmp_path):
    partly = tmp_path / "partly.parquet"
    index.with_labels_of(simulated[3], ["000000", "000002", "000003"], partly)
    given = [*simulated[:3], str(partly), *simulated[4:]]
    with pytest.raises(InputError, match=r"partly\.parquet: 1 scans .* 000001\. An oracle needs dense truth"):
        corrupt(given, tmp_path / "targets.zarr")
    assert not list(tmp_path.glob("targets.zarr*"))


def test_a_projection_of_another_sequence_is_refused(simulated, taught, tmp_path):
    given = [*simulated[:5], str(taught["projection"])]
    with pytest.raises(InputError, match=r"00\.projection holds other frames than .*00\.parquet"):
        corrupt(given, tmp_path / "targets.zarr")
    # The same frames, but with points beyond the scans.
    point = np.array([3, 500, 1], dtype=np.uint32)
    frames = store.Projection(simulated[5]).frames
    about = {"sequence": "00", "frames": frames, "provenance": {}, "cameras": ["image_2"], "image_sizes": {}}
    with store.create(tmp_path / "beyond.zarr", "projection", **about) as out:
        out.rows("point", (), np.uint32).append(point + 200_000)
        out.rows("visible", (), np.bool_).append(np.ones(3, dtype=bool))
        out.array("offsets", np.array([0, 0, 3, 3, 3]))
    with pytest.raises(InputError, match=r"beyond\.zarr, frame 000001: points beyond the scan"):
        corrupt([*simulated[:5], str(tmp_path / "beyond.zarr")], tmp_path / "targets.zarr")
