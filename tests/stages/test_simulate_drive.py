import subprocess
import sys

import pytest

from elite_pipeline.stages import simulate_drive

SETTINGS = ["seed=3", "frames=1", "spacing=6.0", "beams=16", "columns=128", "image_width=62", "image_height=24"]


def test_writes_a_sequence(tmp_path):
    out = tmp_path / "data" / "demo" / "sequences" / "00"
    simulate_drive.main(["--sequence", "00", "--out", str(out), *SETTINGS])
    assert (out / "velodyne" / "000000.bin").stat().st_size % 16 == 0
    assert (out / "truth" / "image_2" / "visible" / "000000.npy").exists()
    assert not out.with_name("00.partial").exists()


@pytest.mark.parametrize("wrong", ["frames=0", "beams=1.5", "colour=1", "spacing=-1"])
def test_refuses_wrong_settings(tmp_path, wrong):
    key = wrong.split("=")[0]
    with pytest.raises(Exception, match=key):
        simulate_drive.main(["--sequence", "00", "--out", str(tmp_path / "00"), *SETTINGS, wrong])
    assert list(tmp_path.iterdir()) == []


def test_import_is_light_and_never_of_torch():
    code = (
        "import sys, elite_pipeline.stages.simulate_drive, elite_pipeline.simulation;"
        "sys.exit(bool({'torch', 'open3d'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
