"""plot_latency: a figure of a latency result."""

import json

import numpy as np
from PIL import Image

from elite_pipeline.stages.plot_latency import main


def test_picture(latency_result, tmp_path):
    (tmp_path / "x.json").write_text(json.dumps(latency_result))
    main(["--result", str(tmp_path / "x.json"), "--out", str(tmp_path / "x.png")])
    picture = np.asarray(Image.open(tmp_path / "x.png").convert("RGB"))
    assert (picture == (204, 0, 0)).all(axis=2).any(), "the budget's red line"
