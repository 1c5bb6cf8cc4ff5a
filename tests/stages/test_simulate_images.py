import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from small_nuimages import UNKNOWN, write_nuscenes_table

from elite_pipeline import simulation
from elite_pipeline.datasets.classes import class_table
from elite_pipeline.datasets.nuimages import open_nuimages
from elite_pipeline.errors import InputError
from elite_pipeline.simulation import random_views
from elite_pipeline.stages import simulate_images

SETTINGS = ["seed=6", "worlds=2", "views_per_world=2", "image_width=64", "image_height=32", 'unknown=["road"]']
SETTINGS += ['classes="semantickitti"']


def test_images_of_two_worlds_and_a_killed_run(tmp_path, classes):
    out, partial = tmp_path / "data/worlds", tmp_path / "data/worlds.partial"
    # A run with other settings was killed here. Its labels have the names of the last labels of their worlds.
    for name in ("000001.png", "000003.png", "000009.png"):
        for kind in ("images", "labels"):
            (partial / kind).mkdir(parents=True, exist_ok=True)
            (partial / kind / name).write_bytes(b"of other settings")
    (partial / "simulated.json").write_text('{"settings": {"seed": 5}}')

    simulate_images.main(["--out", str(out), *SETTINGS])
    files = {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*.png")}
    assert sorted(files) == [f"{kind}/{k:06d}.png" for kind in ("images", "labels") for k in range(4)]
    for number, view in enumerate(random_views(7, 2, 64, 32), start=2):
        assert np.array_equal(np.array(Image.open(out / f"images/{number:06d}.png")), view.rgb)
        label = Image.open(out / f"labels/{number:06d}.png")
        assert label.mode == "L"
        semantic = classes.of_raw(view.semantic)
        road = semantic == classes.names.index("road")
        assert road.any()
        assert np.array_equal(np.array(label), np.where(road, 0, semantic))

    # As after a kill during the second world: one view is complete, the image of the other is half written.
    out.rename(partial)
    before = (partial / "labels/000001.png").stat().st_mtime_ns
    (partial / "labels/000003.png").unlink()
    (partial / "images/000003.png").unlink()
    (partial / "images/000003.partial").write_bytes(files["images/000003.png"][:100])
    simulate_images.main(["--out", str(out), "--processes", "2", *SETTINGS])
    assert {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*.png")} == files
    assert (out / "labels/000001.png").stat().st_mtime_ns == before
    assert {path.name for path in out.iterdir()} == {"images", "labels", "simulated.json"}
    assert not list(out.rglob("*.partial"))
    assert not partial.exists()


def test_nuimages_are_written_for_its_reader(tmp_path, monkeypatch):
    views = list(random_views(6, 1, 64, 32))
    monkeypatch.setattr(simulation, "random_views", lambda *_, **__: views)
    table = write_nuscenes_table(tmp_path / "nuscenes.yaml")
    small = [word.replace("views_per_world=2", "views_per_world=1") for word in SETTINGS[:5]]
    settings = [*small, f'classes="{table}"', 'format="nuimages"', "held_out=0.5", f"unknown={json.dumps(UNKNOWN)}"]
    simulate_images.main(["--out", str(tmp_path / "nuimages"), *settings])
    images = open_nuimages(tmp_path / "nuimages", class_table(str(table)))
    assert images.split(0.1) == (range(1), range(1, 2))
    about = json.loads((tmp_path / "nuimages/simulated.json").read_text())
    assert (about["format"], about["held_out"]) == ("nuimages", 0.5)


def test_images_of_the_user_are_not_overwritten(tmp_path):
    mine = tmp_path / "worlds/images/mine.png"
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"mine")
    with pytest.raises(InputError, match="was not made by simulate_images"):
        simulate_images.main(["--out", str(tmp_path / "worlds"), *SETTINGS])
    assert mine.read_bytes() == b"mine"


@pytest.mark.parametrize("wrong", ["worlds=0", "image_width=1.5", 'format="coco"', 'unknown=["street"]', "colour=1"])
def test_wrong_settings_are_refused(tmp_path, wrong):
    with pytest.raises(InputError, match=wrong.split("=")[0]):
        simulate_images.main(["--out", str(tmp_path / "worlds"), *SETTINGS, wrong])
    assert list(tmp_path.iterdir()) == []


def test_import_is_light_and_never_of_torch():
    code = (
        "import sys, elite_pipeline.stages.simulate_images, elite_pipeline.simulation.images;"
        "sys.exit(bool({'torch', 'open3d'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
