"""plot_predictions: bird's-eye views of labelled scans, with a student loaded from its folder."""

import numpy as np
import pytest
from PIL import Image

from elite_pipeline.errors import InputError
from elite_pipeline.recordings import index
from elite_pipeline.stages.plot_predictions import main


def words(paths, model, out):
    """Return the command line for one sequence."""
    known = ["--data", str(paths["data"]), "--frames", str(paths["frames"])]
    return ["--model", str(model), *known, "--out", str(out)]


def test_picture(recorded, untrained_model, tmp_path):
    main(words(recorded, untrained_model, tmp_path / "predictions.png"))
    picture = np.asarray(Image.open(tmp_path / "predictions.png").convert("RGB"))
    assert picture.shape[1] > 1500
    assert (picture == (255, 60, 60)).all(axis=2).any(), "an untrained student makes errors, and they are red"


def test_nothing_labelled(recorded, untrained_model, tmp_path, write_index):
    rows = index.pq.read_table(recorded["frames"]).to_pylist()
    write_index(recorded["frames"], [{**row, "labelled": False} for row in rows])
    with pytest.raises(InputError, match=r"no scan of .* is labelled"):
        main(words(recorded, untrained_model, tmp_path / "predictions.png"))
