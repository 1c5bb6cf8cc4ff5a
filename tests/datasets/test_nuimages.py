import re
import shutil

import numpy as np
import pytest
from PIL import Image
from small_nuimages import HEIGHT, WIDTH, box, edit, write_nuimages, write_nuscenes_table

from elite_pipeline.datasets.classes import class_table
from elite_pipeline.datasets.lens import lens_of
from elite_pipeline.datasets.nuimages import open_nuimages
from elite_pipeline.datasets.run_lengths import encode
from elite_pipeline.errors import InputError

CAR, BUS, PEDESTRIAN, ROAD = 4, 3, 7, 11


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return class_table(str(write_nuscenes_table(tmp_path_factory.mktemp("classes") / "nuscenes.yaml")))


@pytest.fixture
def folder(tmp_path):
    return write_nuimages(tmp_path / "nuimages")


def test_images_and_labels_of_both_splits(folder, table):
    images = open_nuimages(folder, table)
    assert [file.name for file in images.files] == [
        f"{split}-log__CAM_FRONT__{k:016d}.jpg" for split in ("train", "val") for k in range(3)
    ]
    assert images.split(0.5) == (range(3), range(3, 6)), "v1.0-val is held out, whatever the share is"
    assert images.order == "those of v1.0-train, then those of v1.0-val, sorted by name"
    assert images.notes == []
    assert np.array_equal(images.image(4), np.array(Image.open(images.files[4])))
    for k in range(6):
        expected = np.where(box(0, 16, WIDTH, HEIGHT), ROAD, 0)
        expected[box(4, 12, 12 + k % 3, 24)] = CAR
        assert np.array_equal(images.labels(k), expected), "the car is over the road"
        assert images.labels(k).dtype == np.uint8
    assert images.class_pixels.shape == (6, 17)
    assert images.class_pixels[1, [CAR, ROAD]].tolist() == [9 * 12, 48 * 16], "where masks overlap, each counts"
    assert images.class_pixels[1].sum() == WIDTH * HEIGHT


@pytest.mark.parametrize(
    ("versions", "read"),
    [
        (["v1.0-mini"], "mini"),
        (["v1.0-val"], "val"),
        (["v1.0-mini", "v1.0-train"], "train"),
        (["v1.0-mini", "v1.0-val"], "val"),
    ],
)
def test_of_one_folder_of_tables_the_last_images_are_held_out(tmp_path, table, versions, read):
    images = open_nuimages(write_nuimages(tmp_path / "set", versions), table)
    assert {file.name.split("-")[0] for file in images.files} == {read}
    assert images.split(0.1) == (range(2), range(2, 3))
    with pytest.raises(InputError, match="has 3 images, and 3 of them are held out"):
        images.split(0.9)


def add(folder, table, *rows):
    edit(folder / f"v1.0-train/{table}.json", lambda known: known.extend(rows))


def annotation(token, raw, mask, picture="trainp0"):
    return {"token": token, "sample_data_token": picture, "category_token": f"c{raw}", "mask": encode(mask)}


def test_overlaps_are_painted_in_the_official_order(folder, table):
    """Surfaces in the order of the table, then objects in the order of tokens."""
    edit(folder / "v1.0-train/object_ann.json", lambda rows: rows[1:])
    add(folder, "surface_ann", annotation("0", 31, box(0, 28, 48, 32)))  # the car itself, over the road
    add(folder, "object_ann", annotation("b", 16, box(10, 8, 30, 20)), annotation("a", 2, box(20, 4, 26, 24)))
    expected = np.where(box(0, 16, WIDTH, 28), ROAD, 0)
    expected[box(20, 4, 26, 24)] = PEDESTRIAN
    expected[box(10, 8, 30, 20)] = BUS
    assert np.array_equal(open_nuimages(folder, table).labels(0), expected)


def test_categories_without_a_class_are_unlabelled_and_cover_others(folder, table):
    add(folder, "object_ann", annotation("z", 20, box(0, 20, 10, 24)))  # a police car
    labels = open_nuimages(folder, table).labels(0)
    assert (labels[20:24, :10] == 0).all()
    assert labels[20, 11] == CAR


def test_annotations_without_a_mask_are_skipped(folder, table):
    before = open_nuimages(folder, table)
    add(folder, "object_ann", {**annotation("z", 17, box(0, 0, 9, 9)), "mask": None})
    after = open_nuimages(folder, table)
    assert np.array_equal(after.labels(0), before.labels(0))
    assert after.crc32 == before.crc32


def test_images_without_annotations_are_unlabelled(folder, table):
    for name in ("object_ann", "surface_ann"):
        edit(folder / f"v1.0-val/{name}.json", lambda rows: [r for r in rows if r["sample_data_token"] != "valp1"])
    images = open_nuimages(folder, table)
    assert (images.labels(4) == 0).all()
    assert (images.labels(5) != 0).any()


def test_the_checksum_changes_with_masks_and_images(folder, table):
    before = open_nuimages(folder, table).crc32
    assert open_nuimages(folder, table).crc32 == before
    edit(folder / "v1.0-val/object_ann.json", lambda rows: rows[0].update(category_token="c23"))
    changed = open_nuimages(folder, table).crc32
    assert changed != before
    file = sorted((folder / "samples/CAM_FRONT").iterdir())[0]
    Image.open(file).save(file, quality=50)
    assert open_nuimages(folder, table).crc32 not in (before, changed)


def test_the_distortion_of_the_lens_is_undone(tmp_path, table):
    coefficients = (-0.31, 0.11, 0.0011, -0.0007, -0.02)
    plain = open_nuimages(write_nuimages(tmp_path / "plain", images=2), table)
    bent = open_nuimages(write_nuimages(tmp_path / "bent", images=2, distortion=coefficients), table)
    assert bent.notes == ["the distortion of the lens is undone in 4 of 4 images"]
    lens = lens_of([[40.0, 0.0, 24.0], [0.0, 40.0, 16.0], [0.0, 0.0, 1.0]], coefficients)
    for k in range(4):
        image, label = (Image.fromarray(of(k)) for of in (plain.image, plain.labels))
        assert np.array_equal(bent.image(k), np.array(lens.undistort(image)))
        assert np.array_equal(bent.labels(k), np.array(lens.undistort(label, labels=True)))
        assert (bent.labels(k) != plain.labels(k)).any()
    assert bent.crc32 != plain.crc32


@pytest.mark.parametrize("coefficients", [(-0.3, 0.1, 0.0, 0.0, 0.0, 0.02), (-9.0, 0.0, 0.0, 0.0, 0.0)])
def test_a_lens_without_known_formula_stays(tmp_path, table, coefficients):
    plain = open_nuimages(write_nuimages(tmp_path / "plain", images=1), table)
    bent = open_nuimages(write_nuimages(tmp_path / "bent", images=1, distortion=coefficients), table)
    assert bent.notes == ["the distortion of the lens stays in 2 of 2 images: its formula is not published"]
    assert np.array_equal(bent.image(0), plain.image(0))
    assert np.array_equal(bent.labels(0), plain.labels(0))


def test_a_folder_that_is_not_nuimages_is_refused(tmp_path, table, folder):
    with pytest.raises(InputError, match=r"has no v1.0-train or v1.0-val or v1.0-mini, so .*\n.*ln -sfn"):
        open_nuimages(tmp_path / "missing", table)
    shutil.rmtree(folder / "samples")
    with pytest.raises(InputError, match="has no samples/"):
        open_nuimages(folder, table)


def test_missing_tables_are_named_together(folder, table):
    for name in ("category", "object_ann"):
        (folder / f"v1.0-val/{name}.json").unlink()
    with pytest.raises(InputError, match=r"v1.0-val: lacks category.json, object_ann.json. Copy"):
        open_nuimages(folder, table)


@pytest.mark.parametrize("name", ["sample_data", "surface_ann"])
def test_truncated_tables_are_refused(folder, table, name):
    path = folder / f"v1.0-train/{name}.json"
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(InputError, match=rf"v1.0-train/{name}.json: is truncated"):
        open_nuimages(folder, table)


def test_all_other_faults_come_in_one_report(folder, table):
    def rows(name, change, version="train"):
        edit(folder / f"v1.0-{version}/{name}.json", change)

    files = sorted((folder / "samples/CAM_FRONT").iterdir())
    files[0].unlink()
    files[1].write_bytes(files[1].read_bytes()[:-600])
    files[2].write_bytes(b"no image")
    add(folder, "category", {"token": "c99", "name": "vehicle.submarine", "description": ""})
    add(folder, "sample", {"token": "s9", "timestamp": 0, "log_token": "l0", "key_camera_token": "nowhere"})
    small, cut = annotation("small", 17, box(0, 0, 4, 4, (HEIGHT, WIDTH // 2))), annotation("cut", 17, box(1, 2, 9, 9))
    cut["mask"]["counts"] = cut["mask"]["counts"][:-4]
    add(folder, "object_ann", small, cut, {"token": "bare", "sample_data_token": "trainp0", "category_token": "c17"})
    add(folder, "object_ann", annotation("lost", 17, box(0, 0, 4, 4), "elsewhere"))
    add(
        folder,
        "surface_ann",
        annotation("kindless", 77, box(0, 0, 4, 4)),
        annotation("swept", 24, box(0, 0, 4, 4), "trainp0s"),
    )
    rows("sample_data", lambda known: known[1].update(calibrated_sensor_token="k1"), "val")
    rows("calibrated_sensor", lambda known: known[0].update(camera_intrinsic=[[1]]), "val")
    with pytest.raises(InputError) as error:
        open_nuimages(folder, table)
    first, *faults = str(error.value).splitlines()
    assert first.endswith("has 13 faults:"), error.value
    expected = [
        r"train-log__CAM_FRONT__0+\.jpg: there is no such image, but the tables name it",
        r"train-log__CAM_FRONT__0+1\.jpg: truncated",
        r"train-log__CAM_FRONT__0+2\.jpg: unreadable",
        r"v1.0-train/category.json: record 25 \(c99\): 'vehicle.submarine' is no category of nuImages",
        r"v1.0-train/object_ann.json: record 3 \(small\): its mask is of 24 x 32 pixels, but its image has 48 x 32",
        r"v1.0-train/object_ann.json: record 4 \(cut\): its mask has undecodable counts",
        r"v1.0-train/object_ann.json: record 5 \(bare\) has no 'mask'",
        r"v1.0-train/object_ann.json: record 6 \(lost\): sample_data_token elsewhere does not lead to the image of a",
        r"v1.0-train/sample.json: key_camera_token nowhere of sample s9 leads to no sample_data",
        r"v1.0-train/surface_ann.json: record 3 \(kindless\): category_token c77 does not lead to a category",
        r"v1.0-train/surface_ann.json: record 4 \(swept\): sample_data_token trainp0s does not lead to the image of a",
        r"v1.0-val/calibrated_sensor.json: record 0 \(k0\): ",
        r"v1.0-val/sample_data.json: record 1 \(valp2\): calibrated_sensor_token k1 does not lead to the calibration",
    ]
    assert all(re.search(*pair) for pair in zip(expected, faults, strict=True)), faults


def test_an_image_of_another_size_than_its_tables_say_is_refused(folder, table):
    file = sorted((folder / "samples/CAM_FRONT").iterdir())[3]
    Image.fromarray(np.zeros((HEIGHT, WIDTH - 2, 3), np.uint8)).save(file)
    with pytest.raises(InputError, match="has 46 x 32 pixels, but its tables say 48 x 32"):
        open_nuimages(folder, table)


def test_an_image_that_changes_during_training_is_refused(folder, table):
    images = open_nuimages(folder, table)
    Image.fromarray(np.zeros((HEIGHT, WIDTH - 2, 3), np.uint8)).save(images.files[0])
    with pytest.raises(InputError, match="is no longer of 48 x 32 pixels"):
        images.image(0)
    images.files[0].unlink()
    with pytest.raises(InputError, match="unreadable"):
        images.image(0)


def test_no_sample_is_refused(folder, table):
    (folder / "v1.0-val/sample.json").write_text("[]")
    for name in ("object_ann", "surface_ann"):
        (folder / f"v1.0-val/{name}.json").write_text("[]")
    with pytest.raises(InputError, match=r"v1.0-val/sample.json: has no sample"):
        open_nuimages(folder, table)
