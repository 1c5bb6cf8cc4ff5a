"""Training from the cache equals training with the frozen teacher in the loop: same targets, losses and weights."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional

from elite_pipeline import store
from elite_pipeline.config import EncoderSettings
from elite_pipeline.recordings.sequence import open_recorded
from elite_pipeline.soft_labels import decode, encode
from elite_pipeline.stages import cache_teacher, index_frames, label_images, project_points, tune_teacher
from elite_pipeline.teacher import storage
from elite_pipeline.training.examples import Example, Examples
from elite_pipeline.training.loop import train
from elite_pipeline.training.segmentation import Segmentation

LAYOUT = ['format="semantickitti"', 'classes="semantickitti"']
CAMERAS = 'cameras={"image_2": "P2", "image_0": "P0"}'
ENCODER = ['encoder="sam_tiny"', "longest_side=64"]
TUNE = [
    "upscaler=8",
    'peft={"method": "lora", "rank": 2, "alpha": 2, "targets": ["qkv", "lin1"]}',
    'tune_teacher={"steps": 4, "batch": 2, "learning_rate": 0.01, "weight_decay": 0.01, "warmup": 1, "lovasz": 1.0,'
    '"seed": 0}',
]
CUT, STEP = 6.0, 6.0 / 127
"""In standard deviations: the value at which cached features are clipped, and their quantisation step. The store states
both."""

TOLERANCE = 2e-3
"""Allowed relative difference of losses between cached targets (int8 features) and exact targets."""

SOFT = 0.12
"""The same of losses against soft labels. The teacher here has hardly learnt. Its soft labels are nearly uniform, the
worst case of the compact form, which has one number for 15 of the 19 classes."""


@pytest.fixture(scope="module")
def cached(write_drive, classes, tmp_path_factory):
    """({"data", "frames", "projection", "targets"} -> path, teacher, view): a tuned sam_tiny and its cache.

    Frame 0 has only a colour image, frame 1 has only a smaller grey image, and frame 2 has both and no labels.
    """
    out = tmp_path_factory.mktemp("cached")
    folder = write_drive(out / "sequences" / "00")
    (folder / "image_2/000001.png").unlink()
    (folder / "image_0").mkdir()
    for frame in ("000001", "000002"):
        grey = np.random.default_rng(int(frame)).integers(0, 255, (30, 64), dtype=np.uint8)
        Image.fromarray(grey).save(folder / "image_0" / f"{frame}.png")
    (folder / "labels/000002.label").unlink()

    paths = {"data": out, "frames": out / "00.parquet", "projection": out / "projection.zarr"}
    data, frames = ["--data", str(out)], ["--frames", str(paths["frames"])]
    projection = ["--projection", str(paths["projection"])]
    labels, adapter = out / "pseudo_labels.zarr", out / "adapter"
    needs = [*LAYOUT, CAMERAS, "missing_images=true", "labels=false", "images=true"]
    index_frames.main([*data, "--sequence", "00", "--out", str(paths["frames"]), *needs])
    seen = ["project_points.min_depth=0.5", "project_points.cell=60.0", "project_points.tolerance=0.1"]
    project_points.main([*data, *frames, "--out", str(paths["projection"]), *seen])
    label_images.main([*data, *frames, *projection, "--out", str(labels), 'labeller="sparse"'])
    made = [*data, *frames, *projection, "--pseudo-labels", str(labels)]
    tune_teacher.main([*made, "--out", str(adapter), *ENCODER, *TUNE])
    paths["targets"] = out / "targets.zarr"
    wanted = ['cache_teacher.targets=["logits", "features"]', "cache_teacher.batch=1"]
    known = [*data, *frames, *projection, "--adapter", str(adapter)]
    cache_teacher.main([*known, "--out", str(paths["targets"]), *ENCODER, *wanted])
    return paths, *storage.load(adapter, EncoderSettings(encoder="sam_tiny", longest_side=64), classes)


def read(paths):
    return open_recorded(paths["data"], *([paths[name]] for name in ("frames", "projection", "targets")))


@torch.no_grad()
def ask(teacher, view, recorded, f):
    """Runs the teacher on frame index `f`, from images and calibration, without its cache. The results are exact.

    Returns (M,) points, (M, S, K) float32 logits, (M,) rows of the patch features, (Q, S, D) float32 patch features.
    """
    projection, widest = recorded.projection, max(teacher.encoder.channels)
    points, logits, patch_of, patches, count = [], [], [], [], 0
    for c, camera in enumerate(projection.cameras):
        rows = projection.rows(f, c)
        if rows.start == rows.stop:
            continue
        image = recorded.recording.image(recorded.index.frames[f], camera)
        pixel = torch.from_numpy(view.pixels(projection.read("pixel", rows), image.shape[:2]))
        visible = torch.from_numpy(projection.read("visible", rows))
        prepared = view.prepare(image)[None]
        maps = []
        for head, stage in zip(teacher.heads, teacher.encoder(prepared), strict=True):
            size = view.patch // head.stride
            means = functional.avg_pool2d((stage[0] - head.mean) / head.std, size)
            maps.append(functional.pad(means, (0, 0, 0, 0, 0, widest - len(means))))
        column, row = (pixel[visible] // view.patch).long().T
        hit, of_point = torch.unique(torch.stack([row, column]), dim=1, return_inverse=True)
        points.append(torch.from_numpy(projection.read("point", rows).astype(np.int64))[visible])
        logits.append(teacher.point_logits(prepared, [pixel])[visible])
        patch_of.append(of_point + count)
        patches.append(torch.stack(maps)[:, :, hit[0], hit[1]].permute(2, 0, 1))  # (q, S, D)
        count += hit.shape[1]
    return tuple(map(torch.cat, (points, logits, patch_of, patches)))


class Online(Examples):
    """Examples that run the teacher each time one is drawn. rounded: whether targets are rounded as in the store."""

    def __init__(self, sequences, teacher, view, *, rounded):
        super().__init__(sequences, features=True)
        self.teacher, self.view, self.rounded = teacher, view, rounded

    def __getitem__(self, item):
        recorded, f = self.items[item]
        taught, logits, patch_of, patches = ask(self.teacher, self.view, recorded, f)
        if self.rounded:
            logits = decode(encode(logits.half()), logits.shape[-1])
            patches = (patches * (127 / CUT)).round().clamp(-127, 127) * torch.tensor(STEP)
        return Example(
            points=torch.from_numpy(recorded.points(f).copy()),
            labels=torch.from_numpy(recorded.labels(f)),
            instances=torch.from_numpy(recorded.instances(f)),
            taught=taught,
            teacher=logits,
            patch_of=patch_of,
            patches=patches,
        )


def test_cached_targets_equal_the_teachers_within_the_stated_rounding(cached, check_compact):
    paths, teacher, view = cached
    (recorded,) = read(paths)
    assert recorded.targets is not None
    assert recorded.projection is not None
    assert f"{CUT:g} standard deviations" in str(recorded.targets.attrs["quantisation"])
    seen, mass = [], torch.zeros(4, 20, dtype=torch.float64)
    for f in range(3):
        found = recorded.answers(f, features=True)
        points, logits, patch_of, patches = ask(teacher, view, recorded, f)
        assert torch.equal(found.taught, points)
        seen.append(len(points))
        # float16 rounds each of two logits to nearest: half a unit in the last place. The compact form states the rest.
        rows = recorded.projection.frame_rows(f)
        codes = store.read(recorded.targets, "soft_label", rows)[recorded.projection.read("visible", rows)]
        check_compact(codes, logits, slack=float(np.spacing(logits.abs().max().half().numpy())))
        assert torch.equal(found.teacher, decode(torch.from_numpy(codes), 20))
        mine, exact = found.patches[found.patch_of].double(), patches[patch_of].double()
        assert float((mine - exact.clamp(-CUT, CUT)).abs().max()) <= STEP / 2 + 1e-5
        for s, channels in enumerate(teacher.encoder.channels):
            assert not mine[:, s, channels:].any()
            assert mine[:, s, :channels].std() > 0.1
        mass += logits.half().float().softmax(2).double().sum(0)
    assert min(seen) > 10
    hidden = recorded.projection.offsets[-1] - sum(seen)
    assert hidden > 0
    np.testing.assert_allclose(recorded.class_mass(), mass.mean(0).numpy(), rtol=1e-5)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_targets_cached_on_a_gpu_equal_those_of_a_cpu(cached, check_compact):
    """The teacher is tuned and cached on the GPU, which rounds convolutions to TensorFloat-32, and run on the CPU."""
    paths, teacher, view = cached
    (recorded,) = read(paths)
    for f in range(3):
        found = recorded.answers(f, features=True)
        points, logits, patch_of, patches = ask(teacher, view, recorded, f)
        assert torch.equal(found.taught, points)
        rows = recorded.projection.frame_rows(f)
        codes = store.read(recorded.targets, "soft_label", rows)[recorded.projection.read("visible", rows)]
        check_compact(codes, logits, slack=2 * (2e-2 + 2e-2 * float(logits.abs().max())))
        mine, exact = found.patches[found.patch_of], patches[patch_of].clamp(-CUT, CUT)
        assert float((mine - exact).abs().max()) <= STEP / 2 + 2e-2


def taught_by_all(settings, **options):
    losses = settings.losses.model_copy(update={"distillation": 1.0, "output": 1.0, "features": 1.0, "balanced": True})
    options = settings.train_student.model_copy(update={"epochs": 4, **options})
    return settings.model_copy(update={"losses": losses, "train_student": options})


def trained(examples, settings, run):
    """Returns (losses of each step (steps, 5), final weights)."""
    task = Segmentation(examples, settings)
    lines = [json.loads(line) for line in train(task, run).log.read_text().splitlines()]
    names = ("loss", "cross_entropy", "distillation", "output", "features")
    return np.array([[line[name] for name in names] for line in lines]), task.student.state_dict()


def test_training_from_rounded_live_targets_gives_the_same_bits(cached, student_settings, tmp_path):
    paths, teacher, view = cached
    settings = taught_by_all(student_settings)
    from_cache, weights = trained(Examples(read(paths), features=True), settings, tmp_path / "cached")
    online, mine = trained(Online(read(paths), teacher, view, rounded=True), settings, tmp_path / "online")
    assert np.array_equal(online, from_cache)
    assert all(torch.equal(mine[name], weights[name]) for name in mine)


def test_training_with_the_teacher_in_the_loop_has_the_same_loss_curves(cached, student_settings, tmp_path):
    """With SGD. AdamW's first steps are as long for small gradients as for large ones, which magnifies any rounding."""
    paths, teacher, view = cached
    settings = taught_by_all(student_settings, optimiser="sgd", learning_rate=0.05)
    from_cache, _ = trained(Examples(read(paths), features=True), settings, tmp_path / "cached")
    online, _ = trained(Online(read(paths), teacher, view, rounded=False), settings, tmp_path / "online")
    assert len(online) == 6
    assert not np.array_equal(online, from_cache)
    assert online[-1, 0] < 0.95 * online[0, 0]
    loss, cross_entropy, *soft, features = range(5)
    for column, bound in ((cross_entropy, TOLERANCE), (features, TOLERANCE), (soft, SOFT), (loss, 1e-2)):
        np.testing.assert_allclose(online[:, column], from_cache[:, column], rtol=bound)
    # The compact form has less information. This is a constant of the targets, whatever the student has learnt.
    assert (np.ptp(online[:, soft] - from_cache[:, soft], axis=0) < 0.03 * online[:, soft].max(0)).all()
