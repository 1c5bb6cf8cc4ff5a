"""simulate_tables: the tables of simulated scenes as one data set, and real ones that are never touched."""

import json
import shutil

import pytest

from elite_pipeline.config import SimulateDrive
from elite_pipeline.datasets.nuscenes_splits import SPLITS
from elite_pipeline.errors import InputError
from elite_pipeline.simulation import scene_tables
from elite_pipeline.simulation.nuscenes_drive import write_nuscenes_drive
from elite_pipeline.stages import simulate_drive, simulate_tables

SETTINGS = {"seed": 5, "frames": 1, "spacing": 4.0, "beams": 32, "columns": 48, "image_width": 32, "image_height": 18}
SCENES = SPLITS["mini_val"]


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    """The folder of a data set of two scenes, which were simulated by the stage and by the function."""
    root = tmp_path_factory.mktemp("data") / "demo"
    words = [f"{key}={value}" for key, value in SETTINGS.items()]
    first, second = (root / "sequences" / name for name in SCENES)
    main = ["--sequence", first.name, "--out", str(first), *words, "surround=true", 'format="nuscenes"']
    simulate_drive.main(main)
    write_nuscenes_drive(second, second.name, SimulateDrive(**SETTINGS, surround=True))
    return root


@pytest.fixture
def root(simulated, tmp_path, monkeypatch):
    """A copy of it, at data/demo in the working directory."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(simulated, "data/demo")
    return (tmp_path / "data/demo").relative_to(tmp_path)


def join(root):
    scenes = sorted((root / "sequences").iterdir(), reverse=True)
    simulate_tables.main(["--scenes", *map(str, scenes), "--out", str(root / "v1.0-mini")])


def files(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_marker_does_not_name_the_format(simulated):
    first, second = (json.loads((simulated / "sequences" / name / "simulated.json").read_text()) for name in SCENES)
    assert first == {**second, "sequence": SCENES[0]}


def test_tables_of_all_scenes_with_labels_beside_them(root, capsys):
    join(root)
    assert "v1.0-mini: 2 keyframes of 2 scenes" in capsys.readouterr().out
    rows = {path.stem: json.loads(path.read_text()) for path in (root / "v1.0-mini").glob("*.json")}
    about = rows.pop("simulated")
    assert set(rows) == set(scene_tables.TABLES)
    assert about["scenes"] == [row["name"] for row in rows["scene"]] == list(SCENES)
    for name, found in rows.items():
        assert len({row["token"] for row in found}) == len(found), name
    counts = {name: len(found) for name, found in rows.items() if found}
    assert counts == {
        **{"scene": 2, "sample": 2, "log": 2, "map": 1, "sensor": 7, "calibrated_sensor": 14, "category": 32},
        **{"sample_data": 14, "ego_pose": 14, "lidarseg": 2, "panoptic": 2},
    }
    assert [row["index"] for row in rows["category"]] == list(range(32))
    assert set(rows["map"][0]["log_tokens"]) == {row["token"] for row in rows["log"]}
    assert len({row["timestamp"] for row in rows["sample"]}) == 2
    for table in ("sample_data", "lidarseg", "panoptic"):
        assert all((root / row["filename"]).exists() for row in rows[table])
    for kind, end in scene_tables.LABELS.items():
        names = sorted(path.name for path in (root / kind / "v1.0-mini").glob(f"*{end[-4:]}"))
        assert names == sorted(f"{row['token']}{end}" for row in rows[kind])
    # One key per line, as readers of large tables may rely on.
    lines = (root / "v1.0-mini/sample_data.json").read_text().splitlines()
    assert lines[:2] == ["[", "{"]
    assert lines[2].startswith('"token": "')
    assert sum(line.startswith('"is_key_frame": true') for line in lines) == 14


def test_a_second_run_replaces_the_first(root):
    join(root)
    before = files(root)
    (root / "lidarseg/v1.0-mini/stray_lidarseg.bin").touch()
    (root / "v1.0-mini.partial").mkdir()
    join(root)
    assert files(root) == before
    shutil.rmtree(root / "sequences" / SCENES[0])
    join(root)
    assert len(list((root / "lidarseg/v1.0-mini").glob("*.bin"))) == 1


def test_damaged_scenes_leave_no_tables(root):
    (root / "sequences" / SCENES[1] / "tables.json").write_text('{"log": []')
    with pytest.raises(InputError, match=rf"{SCENES[1]}/tables\.json: unreadable tables .* simulate it again"):
        join(root)
    assert {path.name for path in root.iterdir()} == {"sequences"}


def test_a_killed_run_leaves_no_tables(root, monkeypatch):
    monkeypatch.setattr(scene_tables.json, "dumps", lambda *_, **__: exec("raise KeyboardInterrupt"))
    with pytest.raises(KeyboardInterrupt):
        join(root)
    assert not (root / "v1.0-mini").exists()
    monkeypatch.undo()


@pytest.mark.parametrize("place", ["v1.0-mini", "v1.0-trainval", "lidarseg/v1.0-mini", "panoptic/v1.0-mini"])
def test_recorded_tables_and_labels_are_kept(root, place):
    (root / place).mkdir(parents=True)
    (root / place / "mine").write_text("mine")
    before = files(root)
    with pytest.raises(InputError, match=rf"demo/{place} was not made by simulate_drive .* remove simulate_drive:"):
        join(root)
    assert files(root) == before


def test_a_root_behind_a_link_is_kept(root):
    root.rename("recorded")
    root.symlink_to("../recorded")
    before = files(root)
    with pytest.raises(InputError, match="data/demo is a link to"):
        join(root)
    assert files(root) == before
