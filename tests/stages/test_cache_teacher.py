import gc
import json
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import load_file

from elite_pipeline import store
from elite_pipeline.errors import InputError
from elite_pipeline.stages import cache_teacher, tune_image_teacher, tune_teacher
from elite_pipeline.teacher import targets

CAMERAS = {"image_2": "P2", "image_0": "P0"}
TUNE = [
    "longest_side=64",
    "upscaler=8",
    'peft={"method": "none"}',
    'tune_teacher={"steps": 3, "batch": 2, "learning_rate": 0.01, "weight_decay": 0.01, "warmup": 1, "lovasz": 1.0,'
    '"seed": 0}',
]


@pytest.fixture
def tuned(labelled, random_sam, tmp_path):
    words = [word for name, path in labelled.items() for word in (f"--{name}", str(path))]
    tune_teacher.main([*words, "--out", str(tmp_path / "adapter"), *random_sam, *TUNE])
    return [
        *(word for name in ("data", "frames", "projection") for word in (f"--{name}", str(labelled[name]))),
        "--adapter",
        str(tmp_path / "adapter"),
        *random_sam,
        "longest_side=64",
    ]


def cache(tuned, out, kinds, batch=2, **more):
    values = {"targets": kinds, "batch": batch, **more}
    words = [f"cache_teacher.{key}={json.dumps(value)}" for key, value in values.items()]
    cache_teacher.main([*tuned, "--out", str(out), *words])
    return store.open_store(out, "targets")


def test_targets_are_aligned_with_the_projection(tuned, labelled, tmp_path, capsys, classes, open_drive, check_compact):
    from elite_pipeline.config import EncoderSettings
    from elite_pipeline.teacher import storage

    group = cache(tuned, tmp_path / "targets.zarr", ["logits", "features"])
    assert group.attrs["classes"] == classes.to_json()
    projection = store.Projection(labelled["projection"])
    soft_label = store.read(group, "soft_label")
    assert soft_label.shape == (projection.offsets[-1], 4, 8)
    assert soft_label.dtype == np.uint8
    assert capsys.readouterr().out.count("at visible labelled points: coverage 1.000") == 4

    # Every frame and camera by hand, hidden points included. The last ones are looked at further.
    checkpoint = store.open_store(tmp_path / "targets.zarr", "targets").attrs["provenance"]["settings"]["checkpoint"]
    teacher, view = storage.load(
        tmp_path / "adapter", EncoderSettings(encoder="sam_tiny", checkpoint=checkpoint, longest_side=64), classes
    )
    recording, mass = open_drive(labelled["data"] / "sequences/00", CAMERAS), np.zeros((4, 20))
    for f, c in np.ndindex(3, 2):
        rows = projection.rows(f, c)
        if rows.start == rows.stop:
            continue
        image = recording.image(projection.frames[f], projection.cameras[c])
        pixel = torch.from_numpy(view.pixels(projection.read("pixel", rows), image.shape[:2]))
        with torch.no_grad():
            expected = teacher.point_logits(view.prepare(image)[None], [pixel])
        assert len(expected) > 10
        # Two logits, each rounded to float16, from a batch of other sizes.
        check_compact(soft_label[rows], expected, slack=2 * (2e-2 + 2e-3 * float(expected.abs().max())))
        visible = projection.read("visible", rows)
        mass += expected.double().softmax(2)[visible].sum(0).numpy()

    offsets, patches = store.read(group, "patch_offsets"), store.read(group, "patch_index")
    assert len(offsets) == 3 * 2 + 1
    assert (offsets[1:] - offsets[:-1] > 0).tolist() == [False, True, True, False, True, True]
    assert store.read(group, "patch_feature").shape == (offsets[-1], 4, 416)
    assert store.read(group, "patch_scale").shape == (4, 416)
    columns = view.padded(*image.shape[:2])[1] // 16
    hit = {int(v // 16) * columns + int(u // 16) for u, v in pixel.tolist()}
    mine = patches[offsets[4] : offsets[5]].tolist()
    assert set(mine) == hit
    at = [int(v // 16) * columns + int(u // 16) for u, v in pixel.tolist()]
    assert [mine[k] for k in store.read(group, "point_patch", rows)] == at
    np.testing.assert_allclose(store.read(group, "mass"), mass, rtol=1e-3)
    counted = projection.read("visible", slice(None)).sum()
    np.testing.assert_allclose(store.read(group, "mass").sum(1), counted, rtol=1e-5)


def test_only_the_requested_targets_are_written(tuned, tmp_path):
    assert set(cache(tuned, tmp_path / "logits.zarr", ["logits"]).array_keys()) == {"soft_label", "mass"}
    features = cache(tuned, tmp_path / "features.zarr", ["features"])
    of_patches = {"patch_offsets", "patch_index", "patch_feature", "patch_scale"}
    assert set(features.array_keys()) == {*of_patches, "point_patch"}


def test_a_frozen_encoder_has_only_features(labelled, random_sam, tmp_path, capsys):
    read = [word for name in ("data", "frames", "projection") for word in (f"--{name}", str(labelled[name]))]
    out, settings = ["--out", str(tmp_path / "adapter")], [*random_sam, TUNE[0], 'tune_teacher={"steps": 0}']
    tune_teacher.main([*read, *out, *settings])
    frozen = [*read, "--adapter", str(tmp_path / "adapter"), *random_sam, *TUNE[:1]]
    group = cache(frozen, tmp_path / "targets.zarr", ["features"])
    assert set(group.array_keys()) == {"patch_offsets", "patch_index", "patch_feature", "patch_scale", "point_patch"}
    assert store.read(group, "patch_feature").shape[1:] == (4, 416)
    assert "known_classes" not in group.attrs
    assert "accuracy" not in capsys.readouterr().out


def test_a_segmentation_network_also_has_its_classifier(labelled, random_sam, tmp_path, capsys):
    """It has one stage, and never predicts a class that its images lack."""
    rng = np.random.default_rng(0)
    for k in range(3):
        pictures = {"images": rng.integers(0, 255, (32, 64, 3)), "labels": rng.choice([0, 9, 15], (32, 64))}
        for kind, pixels in pictures.items():
            (tmp_path / "set" / kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "set" / kind / f"{k}.png")
    out = [
        "--images",
        str(tmp_path / "set"),
        "--out",
        str(tmp_path / "network"),
        "held_out=0.1",
        'classes="semantickitti"',
    ]
    tune_image_teacher.main([*out, *random_sam, *TUNE])
    read = [word for n in ("data", "frames", "projection") for word in (f"--{n}", str(labelled[n]))]
    network = [*read, "--adapter", str(tmp_path / "network"), *random_sam, *TUNE[:1]]
    capsys.readouterr()
    group = cache(network, tmp_path / "targets.zarr", ["logits", "features"])
    assert group.attrs["known_classes"] == ["road", "vegetation"]
    assert group.attrs["stages"] == 1
    assert "classifier_weight" in group.attrs["quantisation"]
    assert capsys.readouterr().out.count("at visible labelled points") == 1
    heads = load_file(tmp_path / "network/heads.safetensors")
    for name in ("weight", "bias"):
        assert np.array_equal(store.read(group, f"classifier_{name}"), heads[f"0.classifier.{name}"][None])
    soft_label = store.read(group, "soft_label")
    assert soft_label.shape[1:] == (1, 8)
    assert set(soft_label[:, 0, :2].ravel()) == {9, 15}
    assert (soft_label[:, 0, 5:] == 255).all(), "classes that the teacher does not know"
    mass = store.read(group, "mass")
    assert mass.shape == (1, 20)
    assert mass.sum() == pytest.approx(mass[0, [9, 15]].sum())
    assert store.read(group, "patch_feature").shape[1:] == (1, 8)
    assert store.read(group, "patch_scale").shape == (1, 8)


def test_the_batch_size_does_not_change_the_targets(tuned, tmp_path):
    """The images have two sizes; in a batch of three, one is padded."""
    groups = [cache(tuned, tmp_path / f"{n}.zarr", ["logits"], n) for n in (1, 3)]
    one, three = (store.read(group, "soft_label").astype(int) for group in groups)
    assert one[..., 4:].max() > 2
    assert np.abs(one - three)[..., 4:].max() <= 1, "another rounding of the same value"
    assert (one == three).mean() > 0.99
    np.testing.assert_allclose(*(store.read(group, "mass") for group in groups), rtol=1e-3)


def test_several_views_change_the_soft_labels_alone(tuned, labelled, tmp_path):
    kinds = ["logits", "features"]
    default, plain, many = (
        cache(tuned, tmp_path / f"{name}.zarr", kinds, **views)
        for name, views in {
            "default": {},
            "plain": {"views": ["plain"]},
            "many": {"views": ["plain", "mirrored", "scaled"]},
        }.items()
    )
    assert set(default.array_keys()) == set(plain.array_keys()) == set(many.array_keys())
    changed = {"soft_label", "mass"}
    for name in default.array_keys():
        found = [store.read(group, name).tobytes() for group in (default, plain, many)]
        assert found[0] == found[1], name
        assert (found[0] != found[2]) == (name in changed), name
    visible = store.Projection(labelled["projection"]).read("visible", slice(None))
    np.testing.assert_allclose(store.read(many, "mass").sum(1), visible.sum(), rtol=1e-4)


@pytest.mark.parametrize(
    ("kinds", "views", "message"),
    [
        (["logits"], ["plain", "turned"], "'plain', 'mirrored' or 'scaled'; it is 'turned'"),
        (["logits"], [], "without plain: .*Add plain"),
        (["logits"], ["mirrored"], "without plain: .*Add plain"),
        (["logits"], ["plain", "plain"], "names a pass twice"),
        (["features"], ["plain", "scaled"], r"only logits are a mean over passes.* Write views: \[plain\]"),
    ],
    ids=["unknown", "none", "without plain", "twice", "unused"],
)
def test_wrong_views_are_refused(tuned, tmp_path, kinds, views, message):
    with pytest.raises(InputError, match=message):
        cache(tuned, tmp_path / "targets.zarr", kinds, views=views)
    assert not (tmp_path / "targets.zarr").exists()


def test_a_killed_run_is_resumed(tuned, repeated, check_resume):
    """Twelve images in batches of two. Shards do not end with batches."""
    elsewhere = [word for name, path in repeated(3).items() for word in (f"--{name}", str(path))]
    command = [*tuned, *elsewhere, "cache_teacher.batch=2", 'cache_teacher.targets=["logits", "features"]']
    command.append('cache_teacher.views=["plain", "mirrored"]')
    resumes = "cache_teacher 00 resumes at batch 4 of 6"
    check_resume("cache_teacher", command, "elite_pipeline.teacher.targets:answer", 5, resumes, calls=2)


def test_memory_does_not_grow_with_the_sequence(tuned, repeated, tmp_path, monkeypatch):
    monkeypatch.setattr(store, "CHUNK_BYTES", 8000)
    monkeypatch.setattr(store, "SHARD_BYTES", 16000)
    answer = targets.answer

    def traced(*arguments, **options):
        gc.collect()
        tracemalloc.start()  # start here: loading the teacher takes more memory than this
        # Return copies, because PyTorch's memory is not traced.
        return [{n: v.copy() for n, v in one.items()} for one in answer(*arguments, **options)]

    monkeypatch.setattr(targets, "answer", traced)

    def peak(times):
        elsewhere = [word for name, path in repeated(times).items() for word in (f"--{name}", str(path))]
        group = cache([*tuned, *elsewhere], tmp_path / f"{times}.zarr", ["logits", "features"])
        held = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return held, sum(group[name].nbytes for name in ("soft_label", "patch_index", "patch_feature"))

    peak(1)  # warm-up: imports and caches stay in memory
    (short, little), (long, much) = peak(2), peak(8)
    assert much - little > 300_000
    assert long - short < (much - little) / 8


def test_a_teacher_of_another_class_table_is_refused(tuned, labelled, tmp_path, classes):
    path = tmp_path / "adapter/teacher.json"
    described = json.loads(path.read_text())
    other = replace(classes, name="my.yaml", names=(*classes.names[:-1], "hydrant"))
    path.write_text(json.dumps(described | {"classes": other.to_json()}))
    with pytest.raises(InputError) as error:
        cache(tuned, tmp_path / "targets.zarr", ["logits"])
    said = str(error.value)
    assert f"{tmp_path / 'adapter'} has the class table my.yaml" in said
    assert "the data set has the class table semantickitti" in said
    assert "training id 19 is 'hydrant' in the first and 'traffic-sign' in the second" in said
    assert not (tmp_path / "targets.zarr").exists()


def test_a_missing_image_is_named(tuned, labelled, tmp_path):
    (labelled["data"] / "sequences/00/image_0/000002.png").unlink()
    with pytest.raises(InputError, match=r"image_0/000002\.png: missing"):
        cache(tuned, tmp_path / "targets.zarr", ["logits"])
    assert not (tmp_path / "targets.zarr").exists()
