"""A recorded sequence: each point gets its own teacher targets and patch, and files that do not fit are refused."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from elite_pipeline import store
from elite_pipeline.errors import InputError
from elite_pipeline.recordings import index
from elite_pipeline.recordings.sequence import open_recorded
from elite_pipeline.soft_labels import NEVER, STEP
from elite_pipeline.training.examples import Examples


@pytest.fixture
def read(open_taught):
    """A function that opens the one sequence of `taught`, with all of its stores or with the named ones."""
    return lambda taught, *names: open_taught(taught, *names)[0]


def test_teacher_targets_with_and_without_patches(taught, read):
    recorded = read(taught)
    assert (recorded.stages, recorded.feature_channels) == (4, 5)
    for f, seen in enumerate((64, 0, 32)):
        plain, full = recorded.answers(f), recorded.answers(f, features=True)
        assert len(plain.taught) == seen
        assert torch.equal(plain.taught, full.taught)
        assert torch.equal(plain.teacher, full.teacher)
        assert plain.patch_of.tolist() == [-1] * seen
        assert plain.patches.shape == (0, 4, 0)
        assert full.patches.dtype == plain.teacher.dtype == torch.float32
    # Two cameras with four patches each. The patch of a hidden point is kept, although training does not use it.
    assert recorded.answers(0, features=True).patches[:, 0, 0].tolist() == [1.5, 1, 0.5, 0, 6.5, 6, 5.5, 5]
    assert recorded.answers(1, features=True).patches[:, 0, 0].tolist() == [11.5, 11, 10.5, 10]
    last = recorded.answers(2, features=True)
    assert torch.equal(last.patches[last.patch_of, 2, 4] * 2 % 10, last.taught % 4)
    assert (last.patches[:, 3, 4] == 0).all()


@pytest.fixture
def divided(taught):
    """`taught` with hand-made superpixels: the superpixel of a row is its point modulo 3, in either camera."""
    projection, path = store.Projection(taught["projection"]), taught["frames"].with_name("00.superpixels")
    segment = projection.read("point", slice(None)) % 3
    with store.create(path, "superpixels", sequence="00", frames=projection.frames, provenance={}) as out:
        out.rows("segment", (), np.uint16).append(segment.astype(np.uint16))
    return taught | {"superpixels": path}


def test_features_of_superpixels_are_means_over_their_visible_points(divided, read):
    plain, recorded = read({k: v for k, v in divided.items() if k != "superpixels"}), read(divided)
    for f, first_rows in enumerate((40, 10, 30)):  # rows of camera a, before those of camera b
        by_patch, found = plain.answers(f, features=True), recorded.answers(f, features=True)
        assert torch.equal(by_patch.taught, found.taught)
        assert torch.equal(by_patch.teacher, found.teacher)
        visible = np.flatnonzero(plain.projection.read("visible", plain.projection.frame_rows(f)))
        inside = {}
        for m, row in enumerate(visible):
            inside.setdefault((row >= first_rows, int(by_patch.taught[m]) % 3), []).append(m)
        assert len(inside) == len(found.patches) == (6, 0, 6)[f]
        for members in inside.values():
            (superpixel,) = found.patch_of[members].unique().tolist()
            expected = torch.stack([by_patch.patches[by_patch.patch_of[m]] for m in members]).mean(dim=0)
            torch.testing.assert_close(found.patches[superpixel], expected)
        assert found.patches.shape[1:] == (4, 5)
        assert recorded.answers(f).patches.shape == (0, 4, 0)
    assert divided["superpixels"] / "zarr.json" in recorded.files


@pytest.mark.parametrize(("rows", "frames"), [(129, 3), (130, 2)])
def test_superpixels_of_other_rows_or_frames_are_refused(divided, rows, frames, read):
    names = [f"00000{k}" for k in range(frames)]
    with store.create(divided["superpixels"], "superpixels", sequence="00", frames=names, provenance={}) as out:
        out.rows("segment", (), np.uint16).append(np.zeros(rows, np.uint16))
    with pytest.raises(InputError, match=r"00\.superpixels (does not fit|holds other frames)"):
        read(divided)


def test_targets_without_logits_hold_only_features(taught, rewrite_targets, read):
    rewrite_targets(taught["targets"], soft_label=None, mass=None)
    recorded = read(taught)
    assert (recorded.stages, recorded.feature_channels, recorded.has_soft_labels) == (4, 5, False)
    found = recorded.answers(0, features=True)
    assert found.teacher.shape == (64, 0, 20)
    assert found.patches.shape == (8, 4, 5)
    patch = store.read(store.open_store(taught["targets"], "targets"), "point_patch")
    rewrite_targets(taught["targets"], point_patch=patch[:-1])
    with pytest.raises(InputError, match="does not fit"):
        read(taught)
    rewrite_targets(taught["targets"], point_patch=None)
    with pytest.raises(InputError, match="neither logits nor features"):
        read(taught)


def test_the_classifier_of_a_segmentation_network_maps_its_features_to_its_logits(image_taught, read):
    recorded = read(image_taught)
    weight, bias = recorded.classifier()
    found = recorded.answers(0, features=True)
    logits = found.patches[found.patch_of, 0] @ weight.T + bias
    known = [1, 9, 13]
    below, mine = (x[:, known] - x[:, known].amax(1, keepdim=True) for x in (logits, found.teacher[:, 0]))
    assert below.std() > 1
    # Half a step of the compact form; 255 steps at most.
    torch.testing.assert_close(mine, below.clamp_min(-255 * STEP), rtol=0, atol=STEP / 2 + 1e-4)
    unknown = np.setdiff1d(np.arange(1, 20), known)
    torch.testing.assert_close(found.teacher[:, 0].exp()[:, known].sum(1), torch.ones(len(mine)), rtol=0, atol=1e-4)
    assert (found.teacher[:, 0, unknown] <= -255 * STEP + 1e-4).all()
    assert (found.teacher[:, 0, 0] == NEVER).all()
    assert recorded.known_classes == ["car", "road", "building"]
    assert read(image_taught, "frames").classifier() is None


def test_without_labels_no_label_is_read(taught, open_taught):
    for file in (taught["data"] / "sequences/00/labels").iterdir():
        file.unlink()
    (recorded,) = open_taught(taught, labels=False)
    assert not recorded.labels(0).any()
    assert not recorded.instances(0).any()
    examples = Examples([recorded])
    assert (len(examples), examples.labelled) == (3, [])


def test_an_unlabelled_scan_has_no_labels_and_no_instances(taught, read):
    recorded = read(taught)
    assert recorded.labels(0).any()
    assert set(recorded.instances(0).tolist()) == {7}
    assert not recorded.labels(2).any()
    assert not recorded.instances(2).any()
    assert len(recorded.labels(2)) == len(recorded.instances(2)) == 500


def test_without_a_teacher_there_are_no_targets(taught, read):
    recorded = read(taught, "frames")
    found = recorded.answers(0, features=True)
    assert len(found.taught) == len(found.teacher) == len(found.patch_of) == len(found.patches) == 0
    assert [recorded.answered(f) for f in range(3)] == [0, 0, 0]
    assert [read(taught).answered(f) for f in range(3)] == [80, 10, 40]
    with pytest.raises(InputError, match="class counts"):
        recorded.class_mass()


def test_errors_name_the_option_or_file(taught, read):
    with pytest.raises(InputError, match="--projection names 2 files for 1 --frames"):
        open_recorded(taught["data"], [taught["frames"]], [taught["projection"]] * 2, [taught["targets"]])
    with pytest.raises(InputError, match="go together"):
        open_recorded(taught["data"], [taught["frames"]], [taught["projection"]])
    with pytest.raises(InputError, match="targets"):
        read({**taught, "targets": taught["projection"]})
    scan = taught["data"] / "sequences/00/velodyne/000000.bin"
    scan.write_bytes(scan.read_bytes()[:-16])
    with pytest.raises(InputError, match="499 points, but 500"):
        _ = Examples([read(taught)])[0]


def test_files_of_another_class_table_are_refused(taught, read, rewrite_targets, classes):
    names = tuple("tram" if name == "truck" else name for name in classes.names)
    other = replace(classes, name="depot.yaml", names=names)
    rewrite_targets(taught["targets"], {"classes": other.to_json()})
    difference = "training id 4 is 'tram' in the first and 'truck' in the second"
    with pytest.raises(InputError, match=rf"00\.targets has the class table depot\.yaml .*00\.frames .*{difference}"):
        read(taught)
    rows = [{"frame": "000000", "points": 500, "labelled": False, "crc32": 0, "class_points": [0] * 20}]
    path = taught["frames"].with_name("other.frames")
    index.write(path, rows, index.Source("semantickitti", "00", other, {}))
    with pytest.raises(InputError, match=r"00\.frames has the class table semantickitti and .*other\.frames"):
        open_recorded(taught["data"], [taught["frames"], path])


@pytest.mark.parametrize(("name", "frame"), [("soft_label", 0), ("patch_feature", 0), ("point_patch", 2)])
def test_damaged_targets_raise_an_error(taught, name, frame, read):
    (chunk,) = (path for path in (taught["targets"] / name / "c").rglob("*") if path.is_file())
    data = bytearray(chunk.read_bytes())
    data[100] ^= 0xFF
    chunk.write_bytes(data)
    with pytest.raises(InputError, match=f"array '{name}' is damaged"):
        read(taught).answers(frame, features=True)


@pytest.mark.parametrize("last", [4, 65535])
def test_patches_that_do_not_exist_are_refused(taught, rewrite_targets, last, read):
    patch = store.read(store.open_store(taught["targets"], "targets"), "point_patch").copy()
    patch[79] = last  # the last camera of frame 0 has four patches
    rewrite_targets(taught["targets"], point_patch=patch)
    read(taught).answers(0)
    with pytest.raises(InputError, match="patches that do not exist"):
        read(taught).answers(0, features=True)


def test_stores_of_another_size_are_refused(taught, rewrite_targets, read):
    soft_label = store.read(store.open_store(taught["targets"], "targets"), "soft_label")
    rewrite_targets(taught["targets"], soft_label=soft_label[:-1])
    with pytest.raises(InputError, match="does not fit"):
        read(taught)
