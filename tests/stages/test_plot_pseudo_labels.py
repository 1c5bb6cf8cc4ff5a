"""plot_pseudo_labels: curves with gaps, and a gallery with dense and sparse references."""

import json

import numpy as np
import pytest
from PIL import Image

from elite_pipeline.errors import InputError
from elite_pipeline.labellers.painting import EMPTY
from elite_pipeline.stages.plot_pseudo_labels import main

BLUE, RED = (31, 111, 180), (255, 60, 60)


def labeller(accuracy):
    reliability = [{"confidence": [k / 10, k / 10 + 0.1], "share": 0.1, "accuracy": 0.1 * k} for k in range(10)]
    reliability[3] = {"confidence": [0.3, 0.4], "share": 0.0, "accuracy": None}
    known = dict.fromkeys(("accuracy", "miou", "miou_of_all"), accuracy)
    return {**known, "coverage": accuracy or 0.0, "reliability": reliability}


@pytest.fixture
def words(tmp_path, classes):
    """Return the command line for a result in which `paper` covers nothing at 1 %, and a gallery of two rows."""
    by_density = {
        share: {"labellers": {"paper": labeller(low), "default": labeller(0.9), "nearest": labeller(0.8)}}
        for share, low in (("1", 0.7), ("0.2", 0.5), ("0.05", 0.4), ("0.01", None))
    }
    result = {
        "dataset": "toy",
        "reference": "dense truth",
        "encoder": "sam_tiny",
        "frames": 2,
        "by_density": by_density,
    }
    (tmp_path / "x.json").write_text(json.dumps(result))
    reference = np.full((40, 80), 9, np.uint8)
    sparse = np.full((40, 80), EMPTY, np.uint8)
    sparse[::10, ::10] = 9
    wrong = reference.copy()
    wrong[:20] = 13
    row = {"image": np.full((40, 80, 3), 90, np.uint8), "sparse": sparse, "reference": reference, "dense": True}
    row |= {"title": "00/000000", "share": 1.0, "confidence": reference, "paper": wrong * 0, "default": wrong}
    row["nearest"] = reference
    points = {**row, "title": "00/000001", "reference": np.where(sparse == EMPTY, 0, sparse), "dense": False}
    arrays = {f"{k}.{n}": v for k, r in enumerate((row, points)) for n, v in r.items()}
    np.savez(tmp_path / "x.npz", classes=json.dumps(classes.to_json()), **arrays)
    given = ["--result", str(tmp_path / "x.json"), "--gallery", str(tmp_path / "x.npz")]
    return [*given, "--out", str(tmp_path / "x.png"), "--worst", str(tmp_path / "worst.png")]


def test_pictures(words, tmp_path):
    main(words)
    curves = np.asarray(Image.open(tmp_path / "x.png").convert("RGB"))
    assert curves.shape[1] > 1200
    assert (curves == BLUE).all(axis=2).sum() > 1000, "the curves of the default labeller"
    worst = np.asarray(Image.open(tmp_path / "worst.png").convert("RGB"))
    assert worst.shape[1] > 2000
    red = (worst == RED).all(axis=2).nonzero()[0]
    assert len(red) > 10_000, "only default is wrong, in half of a picture"
    half = len(worst) // 2
    assert 0 < (red > half).sum() < (red < half).sum() / 5, "dots where the reference is sparse"


def test_nothing_covered(words, tmp_path, classes):
    np.savez(tmp_path / "x.npz", classes=json.dumps(classes.to_json()))
    with pytest.raises(InputError, match=r"x\.npz has no image that the default labeller covers"):
        main(words)
