"""index_frames: one report of all faults of a sequence, each with file and remedy."""

import shutil

import numpy as np
import pytest
from PIL import Image

from elite_pipeline.errors import InputError
from elite_pipeline.recordings import index
from elite_pipeline.stages.index_frames import main

LAYOUT = ['format="semantickitti"', 'classes="semantickitti"', 'cameras.image_2="P2"']
SETTINGS = [*LAYOUT, "missing_images=false", "labels=true", "images=true"]


def run(drive, out, settings=SETTINGS):
    main(["--data", str(drive.parents[1]), "--sequence", drive.name, "--out", str(out), *settings])


def test_sound_sequence(drive, tmp_path, capsys):
    run(drive, tmp_path / "00.parquet")
    known = index.read(tmp_path / "00.parquet")
    assert known.frames == ["000000", "000001", "000002"]
    assert known.points.tolist() == [500] * 3
    assert known.labelled.all()
    assert known.sizes["image_2"].tolist() == [[40, 80]] * 3
    assert (known.poses, known.times) == (None, None)
    assert "3 scans, 1500 points, 3 scans labelled, 3 images, no poses" in capsys.readouterr().out


def add_poses(drive, step=4.0):
    """Add poses.txt and times.txt: camera 0 drives ahead, `step` metres a frame."""
    (drive / "poses.txt").write_text("".join(f"1 0 0 0 0 1 0 0 0 0 1 {step * k}\n" for k in range(3)))
    (drive / "times.txt").write_text("0.0\n0.5\n1.0\n")


def test_poses_and_times_are_in_the_index(drive, tmp_path, capsys, open_drive):
    add_poses(drive)
    run(drive, tmp_path / "00.parquet")
    assert "3 images, poses" in capsys.readouterr().out
    known = index.read(tmp_path / "00.parquet")
    assert (known.poses.shape, known.poses.dtype) == ((3, 4, 4), np.float64)
    np.testing.assert_array_equal(known.poses, open_drive(drive).poses())
    # The LiDAR looks along the camera's z, so it moves along z of camera 0's world.
    np.testing.assert_allclose(known.poses[2] @ [1, 0, 0, 1], [0, -0.08, 8 + 1 - 0.27, 1])
    assert known.times.tolist() == [0.0, 0.5, 1.0]
    index.with_labels_of(tmp_path / "00.parquet", {"000001"}, tmp_path / "few.parquet")
    few = index.read(tmp_path / "few.parquet")
    assert few.labelled.tolist() == [False, True, False]
    np.testing.assert_array_equal(few.poses, known.poses)
    np.testing.assert_array_equal(few.times, known.times)


@pytest.mark.parametrize("file", ["poses.txt", "times.txt"])
def test_a_changed_pose_or_time_changes_the_index(drive, tmp_path, file):
    add_poses(drive)
    run(drive, tmp_path / "before.parquet")
    lines = (drive / file).read_text().splitlines()
    (drive / file).write_text("\n".join([*lines[:-1], lines[-1].replace("8.0", "8.01").replace("1.0", "1.01")]))
    run(drive, tmp_path / "after.parquet")
    before, after = (index.pq.read_table(tmp_path / f"{name}.parquet") for name in ("before", "after"))
    changed = [name for name in before.column_names if not after[name].equals(before[name])]
    assert changed == [{"poses.txt": "world_from_lidar", "times.txt": "time"}[file]]


def test_faults_of_poses_and_times_are_in_the_report_with_the_others(drive, tmp_path):
    add_poses(drive)
    (drive / "poses.txt").write_text("1 0 0 0 0 1 0 0 0 0 1 0\n" * 2 + "1 0 0 0 0 1 0 0 0 0 2 0\n")
    (drive / "times.txt").write_text("0.0\n0.5\n0.4\n")
    (drive / "labels/000001.label").unlink()
    with pytest.raises(InputError, match="has 3 faults") as error:
        run(drive, tmp_path / "00.parquet")
    for part in (
        "labels/000001.label: missing",
        "poses.txt: 1 of 3 poses are no rigid motion: frame 000002 (pose 3)",
        "times.txt: 1 times go backwards: frame 000002 (time 3)",
    ):
        assert part in str(error.value), part
    (drive / "poses.txt").write_text("1 0 0 0 0 1 0 0 0 0 1 0\n" * 2)
    (drive / "times.txt").write_text("0.0\nsoon\n1.0\n")
    with pytest.raises(InputError, match="has 3 faults") as error:
        run(drive, tmp_path / "00.parquet")
    assert "poses.txt: 2 lines for 3 scans" in str(error.value)
    assert "times.txt, line 2: expected 1 numbers, found text" in str(error.value)


def test_an_index_of_the_version_before_is_refused(drive, tmp_path):
    run(drive, tmp_path / "00.parquet")
    table = index.pq.read_table(tmp_path / "00.parquet")
    about = table.schema.metadata[index.ABOUT].replace(b'"format_version": 3', b'"format_version": 2')
    index.pq.write_table(table.replace_schema_metadata({index.ABOUT: about}), tmp_path / "old.parquet")
    with pytest.raises(InputError, match=r"old\.parquet was written by another version .* Delete it and run"):
        index.read(tmp_path / "old.parquet")


def test_the_index_states_the_source_of_its_frames(drive, tmp_path, classes):
    settings = [*LAYOUT, 'cameras.image_0="P0"', "missing_images=true", "labels=true", "images=false"]
    run(drive, tmp_path / "00.parquet", settings)
    source = index.read(tmp_path / "00.parquet").source
    assert (source.format, source.sequence) == ("semantickitti", "00")
    assert source.classes == classes
    assert source.cameras == {"image_0": "P0", "image_2": "P2"}
    recording = source.open(tmp_path)
    assert recording.frames() == ["000000", "000001", "000002"]
    assert recording.camera("image_2", "000001").intrinsics[0, 0] == 100


@pytest.mark.parametrize("number", [3, -1], ids=["of the camera", "of the LiDAR"])
def test_a_changed_calibration_of_a_camera_changes_the_index(drive, tmp_path, number):
    """A change of an unused camera does not change the index."""
    run(drive, tmp_path / "before.parquet")
    path, line = drive / "calib.txt", {3: "P2", -1: "Tr"}[number]
    text = path.read_text()
    path.write_text(text.replace("P3: 100 0 40 -30", "P3: 100 0 40 -31"))
    run(drive, tmp_path / "unused.parquet")
    path.write_text("".join(_changed(one, number) if one.startswith(line) else one for one in text.splitlines(True)))
    run(drive, tmp_path / "after.parquet")
    before, unused, after = (index.pq.read_table(tmp_path / f"{n}.parquet") for n in ("before", "unused", "after"))
    assert unused.equals(before)
    names = [name for name in before.column_names if not after[name].equals(before[name])]
    assert names == ["image_2_calibration_crc32"]
    assert not any(a == b for a, b in zip(*(t[names[0]].to_pylist() for t in (before, after)), strict=True))


def _changed(line, number):
    name, *words = line.split()
    words[number] = str(float(words[number]) + 0.125)
    return " ".join([name, *words]) + "\n"


@pytest.mark.parametrize("part", ["class", "instance", "remission", "pixel"])
def test_any_change_of_a_file_changes_the_index(drive, tmp_path, part):
    run(drive, tmp_path / "before.parquet")
    raw, scan = drive / "labels/000001.label", drive / "velodyne/000001.bin"
    if part in ("class", "instance"):
        ids = np.fromfile(raw, np.uint32)
        ids[3] = (ids[3] & 0xFFFF0000 | 81) if part == "class" else ids[3] + (1 << 16)
        ids.tofile(raw)
    elif part == "remission":
        points = np.fromfile(scan, np.float32)
        points[7] += 0.25
        points.tofile(scan)
    else:
        image = np.array(Image.open(drive / "image_2/000001.png"))
        image[0, 0, 0] ^= 1
        Image.fromarray(image).save(drive / "image_2/000001.png")
    run(drive, tmp_path / "after.parquet")
    assert (tmp_path / "before.parquet").read_bytes() != (tmp_path / "after.parquet").read_bytes()


def test_all_faults_in_one_report(drive, tmp_path):
    scan = drive / "velodyne/000000.bin"
    points = np.fromfile(scan, np.float32).reshape(-1, 4)
    points[7, 1] = np.nan
    points.tofile(scan)
    with (drive / "velodyne/000001.bin").open("ab") as file:
        file.write(b"abc")
    np.zeros(499, np.uint32).tofile(drive / "labels/000002.label")
    np.full(500, 123, np.uint32).tofile(drive / "labels/000000.label")
    image = drive / "image_2/000001.png"
    image.write_bytes(image.read_bytes()[:300])
    Image.fromarray(np.zeros((20, 80, 3), np.uint8)).save(drive / "image_2/000002.png")
    (drive / "image_2/000000.png").unlink()
    shutil.copy(drive / "image_2/000002.png", drive / "image_2/000005.png")
    (drive / "calib.txt").write_text("P2: 1 2 3\nTr: 0 -1 0 0 0 0 -1 0 1 0 0 0\n")
    with pytest.raises(InputError) as error:
        run(drive, tmp_path / "00.parquet")
    report = str(error.value)
    for part in (
        "velodyne/000000.bin: 1 of 500 points are NaN",
        "velodyne/000001.bin: 8003 bytes",
        "labels/000002.label: 499 labels for the 500 points",
        "labels/000000.label: raw label ids [123]",
        "image_2/000001.png: unreadable image",
        "image_2/000000.png: missing",
        "calib.txt, line 1: P2 has 3 numbers",
    ):
        assert part in report, part
    assert not (tmp_path / "00.parquet").exists()


def test_image_of_another_size_is_a_fault(drive, tmp_path):
    Image.fromarray(np.zeros((20, 80, 3), np.uint8)).save(drive / "image_2/000002.png")
    with pytest.raises(
        InputError, match=r"000002\.png: 80 x 20 pixels, where the sequence's other images have 80 x 40"
    ):
        run(drive, tmp_path / "00.parquet")


def test_missing_camera_folder(drive, tmp_path):
    shutil.rmtree(drive / "image_2")
    with pytest.raises(InputError, match="image_2: no image of any scan"):
        run(drive, tmp_path / "00.parquet")


def test_empty_sequence(tmp_path):
    (tmp_path / "sequences/00").mkdir(parents=True)
    with pytest.raises(InputError, match=r"sequences/00/velodyne: holds no scan\. Put or link"):
        run(tmp_path / "sequences/00", tmp_path / "00.parquet")


def test_missing_images_and_labels_are_fine_where_the_config_needs_none(drive, tmp_path):
    (drive / "image_2/000001.png").unlink()
    (drive / "labels/000001.label").unlink()
    settings = [*LAYOUT, "missing_images=true", "labels=false", "images=true"]
    run(drive, tmp_path / "00.parquet", settings)
    known = index.read(tmp_path / "00.parquet")
    assert known.labelled.tolist() == [True, False, True]
    assert known.sizes["image_2"][1].tolist() == [0, 0]
    shutil.rmtree(drive / "image_2")
    (drive / "calib.txt").unlink()
    run(
        drive,
        tmp_path / "val.parquet",
        [*LAYOUT, "missing_images=false", "labels=false", "images=false"],
    )
