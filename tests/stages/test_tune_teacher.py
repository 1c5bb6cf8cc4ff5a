import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from elite_pipeline.config import View
from elite_pipeline.errors import InputError
from elite_pipeline.stages import tune_teacher
from elite_pipeline.teacher import tuning

SETTINGS = [
    "longest_side=64",
    "upscaler=8",
    'peft={"method": "lora", "rank": 2, "alpha": 2, "targets": ["qkv"]}',
    'tune_teacher={"steps": 12, "batch": 2, "learning_rate": 0.01, "weight_decay": 0.01, "warmup": 2, "lovasz": 1.0,'
    '"seed": 0}',
]


def words(paths, **changes):
    names = {"sequence-folder": "sequences"}
    paths = {names.get(name, name): path for name, path in {**paths, **changes}.items()}
    return [word for name, path in paths.items() for word in (f"--{name}", str(path))]


def test_folder_of_a_tuned_teacher(labelled, random_sam, tmp_path, capsys):
    out = tmp_path / "teacher/adapter"
    tune_teacher.main([*words(labelled), "--out", str(out), *random_sam, *SETTINGS])
    assert "2 images; trainable parameters: 5,120 in adapters" in capsys.readouterr().out
    assert {path.name for path in out.iterdir()} == {
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
        "heads.safetensors",
        "teacher.json",
    }
    description = json.loads((out / "teacher.json").read_text())
    assert description["classes"][9] == "road"
    assert len(description["train_points"]) == 4
    assert "| road |" in (out / "README.md").read_text()
    checkpoint = json.loads(random_sam[1].removeprefix("checkpoint="))
    teacher, view = tuning.load(out, View(encoder="sam_tiny", checkpoint=checkpoint, longest_side=64))
    assert view.longest_side == 64
    assert all(torch.isfinite(logits).all() for logits in teacher(torch.randn(1, 3, 32, 64)))
    assert all(float((head.std - 1).abs().max()) > 0 for head in teacher.heads)  # calibrated
    assert not list((tmp_path / "teacher/run").glob("*"))


def test_stores_of_other_frames_are_refused(labelled, random_sam, tmp_path):
    table = pq.read_table(labelled["frames"])
    pq.write_table(table.slice(0, 2), tmp_path / "short.parquet")
    arguments = words(labelled, frames=tmp_path / "short.parquet")
    with pytest.raises(InputError, match="other frames"):
        tune_teacher.main([*arguments, "--out", str(tmp_path / "adapter"), *random_sam, *SETTINGS])
    assert not (tmp_path / "adapter").exists()


def test_nothing_to_learn_from_is_refused(labelled, random_sam, tmp_path):
    table = pq.read_table(labelled["frames"]).to_pydict()
    table["labelled"] = [False] * 3
    pq.write_table(pa.table(table), tmp_path / "unlabelled.parquet")
    arguments = words(labelled, frames=tmp_path / "unlabelled.parquet")
    with pytest.raises(InputError, match="no image of a labelled scan"):
        tune_teacher.main([*arguments, "--out", str(tmp_path / "adapter"), *random_sam, *SETTINGS])
