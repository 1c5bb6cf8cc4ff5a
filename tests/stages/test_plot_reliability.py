"""plot_reliability: a figure of every kind of result."""

import json

import pytest
import torch
from PIL import Image

from elite_pipeline.errors import InputError
from elite_pipeline.evaluation.confidence import calibration
from elite_pipeline.stages import plot_reliability


@pytest.fixture
def result():
    generator = torch.Generator().manual_seed(0)
    logits = 4 * torch.randn(2000, 1, 20, generator=generator)
    some = calibration(logits, torch.multinomial((logits[:, 0, 1:] / 2).softmax(1), 1, generator=generator)[:, 0] + 1)
    none = calibration(torch.zeros(0, 1, 20), torch.zeros(0, dtype=torch.int64))
    about = {"dataset": "toy", "teacher": "hand", "oracle": None, "held_out": True, "scans": 3}
    return lambda aggregated=some, targets=some: {**about, "targets": targets, "aggregated": aggregated}, none


def drawn(path, result):
    path.with_suffix(".json").write_text(json.dumps(result))
    plot_reliability.main(["--result", str(path.with_suffix(".json")), "--out", str(path)])
    return Image.open(path)


def test_both_kinds_are_side_by_side(result, tmp_path):
    of, none = result
    both, one = drawn(tmp_path / "both.png", of()), drawn(tmp_path / "one.png", of(aggregated=None))
    assert both.width == 2 * one.width
    assert both.height == one.height
    empty = drawn(tmp_path / "none.png", of(none, none))
    assert empty.size == both.size
    assert empty.convert("L").resize((1, 1)).getpixel((0, 0)) > both.convert("L").resize((1, 1)).getpixel((0, 0))


def test_a_damaged_file_is_refused(tmp_path):
    (tmp_path / "calibration.json").write_text('{"targets": ')
    with pytest.raises(InputError, match=r"calibration\.json is not a readable calibration"):
        plot_reliability.main(["--result", str(tmp_path / "calibration.json"), "--out", str(tmp_path / "x.png")])
