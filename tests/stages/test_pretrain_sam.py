"""pretrain_sam: from views to weights that load; a second run does not render the views again."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from elite_pipeline.config import PretrainSam, read
from elite_pipeline.config.validation import flatten
from elite_pipeline.errors import InputError
from elite_pipeline.sam.build import build_sam
from elite_pipeline.stages import pretrain_sam


def test_it_renders_trains_and_writes_weights(tmp_path):
    settings = PretrainSam(
        worlds=2, calibration_worlds=1, views_per_world=1, image_width=64, image_height=32, low_resolution_steps=1,
        steps=1, mask_steps=1, batch=2, learning_rate=0.002, weight_decay=0.05, warmup=1, class_names=False, seed=90000,
    )  # fmt: skip
    values = settings.model_dump(mode="json")
    command = [*flatten(values), "--processes", "1", "--run", str(tmp_path / "run")]
    command += ["--out", str(tmp_path / "sam.safetensors")]
    pretrain_sam.main(command)
    first = build_sam("sam_tiny", tmp_path / "sam.safetensors").state_dict()
    with safe_open(tmp_path / "sam.safetensors", "np") as file:
        assert json.loads(file.metadata()["settings"]) == values
    rendered = sorted((tmp_path / "run/views").iterdir())
    assert [path.suffix for path in rendered] == [".npz"] * 3
    times = [path.stat().st_mtime_ns for path in rendered]
    with np.load(rendered[0]) as view:
        assert view["rgb"].shape == (1, 32, 64, 3)
        assert np.ptp(view["region"]) > 0

    pretrain_sam.main(command)
    assert times == [path.stat().st_mtime_ns for path in rendered], "finished views are not rendered again"
    again = build_sam("sam_tiny", tmp_path / "sam.safetensors").state_dict()
    assert all(torch.equal(value, again[key]) for key, value in first.items())


def test_a_control_never_replaces_the_packaged_weights(tmp_path):
    settings = read(Path(__file__).parents[2] / "config.yaml").pretrain_sam
    values = settings.model_copy(update={"class_names": True}).model_dump(mode="json")
    with pytest.raises(InputError, match="--out"):
        pretrain_sam.main([*flatten(values), "--run", str(tmp_path)])
