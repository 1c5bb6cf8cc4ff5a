"""plot_miou: a figure of an mIoU result, absent classes included."""

import json

import numpy as np
from PIL import Image

from elite_pipeline.stages.plot_miou import main


def test_picture(miou_result, tmp_path):
    (tmp_path / "x.json").write_text(json.dumps(miou_result))
    main(["--result", str(tmp_path / "x.json"), "--out", str(tmp_path / "x.png")])
    picture = np.asarray(Image.open(tmp_path / "x.png").convert("RGB"))
    assert picture.shape[1] > 1500
    assert (picture == (100, 150, 245)).all(axis=2).sum() > 1000, "the bar of cars in the colour of cars"
