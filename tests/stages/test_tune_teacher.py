import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from elite_pipeline import store
from elite_pipeline.config import EncoderSettings
from elite_pipeline.errors import InputError
from elite_pipeline.stages import cache_teacher, tune_teacher
from elite_pipeline.teacher import storage, tuning_images

SETTINGS = [
    "longest_side=64",
    "upscaler=8",
    'peft={"method": "lora", "rank": 2, "alpha": 2, "targets": ["qkv"]}',
    'tune_teacher={"steps": 12, "batch": 2, "learning_rate": 0.01, "weight_decay": 0.01, "warmup": 2, "lovasz": 1.0,'
    '"seed": 0}',
]


def words(paths, **changes):
    return [word for name, path in {**paths, **changes}.items() for word in (f"--{name}", str(path))]


def without_labels(frames, out):
    """Write to `out` an index like `frames` in which no scan is labelled, and return `out`."""
    table = pq.read_table(frames)
    column = pa.array([False] * len(table))
    pq.write_table(table.set_column(table.column_names.index("labelled"), "labelled", column), out)
    return out


def test_folder_of_a_tuned_teacher(labelled, random_sam, tmp_path, capsys, classes):
    out = tmp_path / "teacher/adapter"
    tune_teacher.main([*words(labelled), "--out", str(out), *random_sam, *SETTINGS])
    assert "2 images; trainable parameters: 5,120 in adapters" in capsys.readouterr().out
    assert {path.name for path in out.iterdir()} == {
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
        "heads.safetensors",
        "teacher.json",
    }
    description = json.loads((out / "teacher.json").read_text())
    assert description["classes"] == classes.to_json()
    assert len(description["train_points"]) == 4
    assert "| road |" in (out / "README.md").read_text()
    checkpoint = json.loads(random_sam[1].removeprefix("checkpoint="))
    teacher, view = storage.load(
        out, EncoderSettings(encoder="sam_tiny", checkpoint=checkpoint, longest_side=64), classes
    )
    assert view.longest_side == 64
    assert all(torch.isfinite(logits).all() for logits in teacher(torch.randn(1, 3, 32, 64)))
    assert all(float((head.std - 1).abs().max()) > 0 for head in teacher.heads)  # calibrated
    assert not list((tmp_path / "teacher/run").glob("*"))


def test_nothing_is_held_out_by_default(labelled, random_sam, tmp_path):
    """Weights and description are the same, whether `held_out: 0.0` is stated or not."""
    folders = {"stated": ["tune_teacher.held_out=0.0"], "unstated": []}
    for name, more in folders.items():
        out = ["--out", str(tmp_path / name / "adapter")]
        tune_teacher.main([*words(labelled), *out, *random_sam, SETTINGS[0], SETTINGS[1], *of_two_steps(), *more])
    stated, unstated = ({p.name: p.read_bytes() for p in (tmp_path / n / "adapter").iterdir()} for n in folders)
    assert stated == unstated


def of_two_steps(**changes):
    tuned = {"steps": 2, "batch": 1, "learning_rate": 0.01, "weight_decay": 0.01, "warmup": 1, "lovasz": 1.0} | changes
    return ['peft={"method": "none"}', *(f"tune_teacher.{key}={value}" for key, value in tuned.items())]


def test_no_image_of_a_held_out_scan_is_read(labelled, random_sam, tmp_path):
    """Of the labelled scans 0 and 1, the second is held out. Its image is damaged, and nobody notices."""
    rest = ["--out", str(tmp_path / "teacher/adapter"), *random_sam, SETTINGS[0], SETTINGS[1]]
    for file in labelled["data"].glob("sequences/00/image_*/000001.png"):
        file.write_bytes(b"damaged")
    with pytest.raises(InputError, match="000001"):
        tune_teacher.main([*words(labelled), *rest, *of_two_steps()])
    tune_teacher.main([*words(labelled), *rest, *of_two_steps(held_out=0.5)])
    assert json.loads((tmp_path / "teacher/adapter/teacher.json").read_text())["images"] == 1


def test_stores_of_other_frames_are_refused(labelled, random_sam, tmp_path):
    table = pq.read_table(labelled["frames"])
    pq.write_table(table.slice(0, 2), tmp_path / "short.parquet")
    arguments = words(labelled, frames=tmp_path / "short.parquet")
    with pytest.raises(InputError, match="other frames"):
        tune_teacher.main([*arguments, "--out", str(tmp_path / "adapter"), *random_sam, *SETTINGS])
    assert not (tmp_path / "adapter").exists()


def test_nothing_to_learn_from_is_refused(labelled, random_sam, tmp_path):
    arguments = words(labelled, frames=without_labels(labelled["frames"], tmp_path / "unlabelled.parquet"))
    with pytest.raises(InputError, match="no image of a labelled scan"):
        tune_teacher.main([*arguments, "--out", str(tmp_path / "adapter"), *random_sam, *SETTINGS])


NOTHING_LEARNT = [SETTINGS[0], 'tune_teacher={"steps": 0}']


def test_a_frozen_encoder_needs_no_labels(recorded, random_sam, tmp_path, classes):
    """No scan is labelled; all four images count."""
    for file in recorded["data"].glob("sequences/00/labels/*.label"):
        file.unlink()
    paths = {**recorded, "frames": without_labels(recorded["frames"], tmp_path / "unlabelled.parquet")}
    out, checkpoint = tmp_path / "teacher/adapter", random_sam[1].removeprefix("checkpoint=")
    tune_teacher.main([*words(paths), "--pseudo-labels", "--out", str(out), *random_sam, *NOTHING_LEARNT])
    assert {path.name for path in out.iterdir()} == {"README.md", "heads.safetensors", "teacher.json"}
    description = json.loads((out / "teacher.json").read_text())
    assert (description["train_points"], description["classes"]) == ([], None)
    assert (description["images"], description["standardised_over"]) == (4, 4)
    card = (out / "README.md").read_text()
    assert "Nothing was learnt" in card
    assert "over 4 of the 4 training images, labelled or not" in " ".join(card.split())

    view = EncoderSettings(encoder="sam_tiny", checkpoint=json.loads(checkpoint), longest_side=64)
    teacher, view = storage.load(out, view, classes)
    images = tuning_images.LabelledImages(paths["data"], [paths["frames"]], [paths["projection"]], unlabelled=True)
    maps = [teacher.feature_maps(teacher.encoder(view.prepare(images.image(k))[None])) for k in range(4)]
    for s in range(4):
        values = torch.cat([found[s][0][0].flatten(1) for found in maps], 1)
        torch.testing.assert_close(values.mean(1), torch.zeros(len(values)), atol=1e-3, rtol=0)
        torch.testing.assert_close(values.std(1, correction=0), torch.ones(len(values)), atol=1e-3, rtol=0)


def test_a_frozen_encoder_caches_features(labelled, random_sam, tmp_path):
    paths = {name: path for name, path in labelled.items() if name != "pseudo-labels"}
    adapter = tmp_path / "adapter"
    tune_teacher.main([*words(paths), "--out", str(adapter), *random_sam, *NOTHING_LEARNT])
    known = [word for name, path in paths.items() for word in (f"--{name}", str(path))]
    out = ["--adapter", str(adapter), "--out", str(tmp_path / "targets.zarr")]
    rule = ['cache_teacher={"targets": ["features"], "batch": 2}']
    cache_teacher.main([*known, *out, *random_sam, SETTINGS[0], *rule])
    group = store.open_store(tmp_path / "targets.zarr", "targets")
    assert {"soft_label", "mass"}.isdisjoint(group.array_keys())
    feature = store.read(group, "patch_feature")
    assert feature.shape[1:] == (4, 416)
    assert feature.std() > 10  # one standard deviation is 21
    assert group.attrs["stages"] == 4


def test_pseudo_labels_are_needed_for_tuning(labelled, random_sam, tmp_path):
    paths = {name: path for name, path in labelled.items() if name != "pseudo-labels"}
    with pytest.raises(InputError, match="--pseudo-labels names 0 stores for 1 sequences"):
        tune_teacher.main([*words(paths), "--out", str(tmp_path / "adapter"), *random_sam, *SETTINGS])
