"""The configuration refuses what it does not know, and says where and what to write."""

import re
from pathlib import Path

import pytest
import yaml

from elite_pipeline.config import Config, read
from elite_pipeline.config.validation import flatten, unflatten, validate
from elite_pipeline.errors import InputError

ROOT = Path(__file__).parents[2]


@pytest.fixture
def values():
    return yaml.safe_load((ROOT / "config.yaml").read_text())


def test_shipped_config_is_valid():
    assert {"demo", "sample", "semkitti"} <= set(read(ROOT / "config.yaml").experiments)


def test_every_key_is_explained_once(values):
    """By a comment on its line, or by its name in a comment."""
    for comparison in values["comparisons"].values():
        comparison["experiments"] = "names are the user's"
    keys = {item.partition("=")[0].split(".")[-1] for item in flatten(values)} - {f"image_{k}" for k in range(4)}
    text = (ROOT / "config.yaml").read_text()
    silent = sorted(k for k in keys if not re.search(rf"^\s*{k}:.*#|#.*\b{k}\b", text, re.MULTILINE))
    assert not silent


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (
            "students.elite.network.voxel",
            1,
            "students.elite.network.voxel: unknown key; the keys here are kind, scales",
        ),
        ("students.elite.network.voxel_size", "wide", "students.elite.network.voxel_size: .*'wide'"),
        ("students.elite.network.voxel_size", -1, "students.elite.network.voxel_size: .*greater than 0"),
        (
            "datasets.demo.train",
            ["00", 8],
            'datasets.demo.train.1: 8 is a number; write two digits in quotes, as in "08"',
        ),
        ("datasets.demo.train", ["0"], "datasets.demo.train.0: '0' is no sequence"),
        ("datasets.demo.val", ["00"], "datasets.demo: .*both train and val"),
        ("datasets.demo.cameras.image_2", "P9", "datasets.demo.cameras.image_2: .*'P0', 'P1', 'P2' or 'P3'"),
        ("datasets.semkitti.label_images.sam", None, "labeller is 'regions', so a section 'sam:' is needed"),
        ("teachers.sam_vit_b.sha256", None, "teachers.sam_vit_b: encoder vit_b needs checkpoint and sha256"),
        ("teachers.sam_vit_b.sha256", "abc", "teachers.sam_vit_b.sha256"),
        ("teachers.sam_vit_b.peft.initial_rank", 4, "AdaLoRA only prunes"),
        ("experiments.demo.student", "nobody", "experiments.demo.student is 'nobody', but students: holds only"),
        ("experiments.demo.dataset", 5, "experiments.demo.dataset: Input should be a valid string; it is 5"),
        ("datasets.demo.train", ["00", "00"], "a sequence stands twice"),
        ("datasets.semkitti.label_images.sam.checkpoint", None, "sam: encoder vit_h needs checkpoint and sha256"),
        ("teachers.sam_vit_b.longest_side", 2048, "longest_side 2048 is beyond the 1024 pixels"),
        ("teachers.sam_tiny.cache_teacher.targets", ["features"], "experiments.demo: .*add logits"),
        ("students.elite_demo.network.scales", [2, 4], "experiments.demo: .*2 scales and teacher sam_tiny 4 stages"),
        ("students.elite_demo.losses.features", 1.0, "experiments.demo: .*distils features, .*does not cache"),
        ("students.elite_demo.losses.stages", [4], "experiments.demo: losses.stages .*has 4 stages, counted from 0"),
        ("students.elite_demo.train_student.steps", 9, "either epochs or steps"),
        ("students.elite_demo.train_student.labelled_share", 0.1, "of a batch of 2 is no scan at all"),
        ("students.elite_demo.train_student.labelled_share", 0.75, "of a batch of 2 is all of it"),
        ("datasets.demo.labelled", -0.1, "datasets.demo.labelled"),
        ("datasets.demo.labelled", 0.0, "experiments.demo: no scan of demo has labels, .*teacher sam_tiny"),
        ("datasets.demo_10.labelled", 0.0, "experiments.demo_udakd: no scan of demo_10 has labels, .*no teacher"),
        (
            "students.minkunet_demo.network.kind",
            "unet",
            "students.minkunet_demo.network: kind must be spvcnn or minkunet",
        ),
        ("students.minkunet_demo.network.blocks", [1, 1], "network: planes is .*as many down as up"),
        ("students.minkunet34.network.voxel_size", [0.1, 1.0], "students.minkunet34.network.voxel_size"),
        ("students.minkunet34.network.volume", [[0.0, 80.0], [0.0, 360.0], [-5.0, 3.0]], "cylindrical frame"),
        ("students.minkunet_demo.network.classifier", "shared", "classifier works on the embedding"),
        ("students.fskd_demo.losses.auxiliary", 1.0, "experiments.demo_fskd: .*has no stages"),
        ("experiments.demo_fskd.teacher", "sam_tiny", "experiments.demo_fskd: .*shares its teacher's classifier"),
        ("experiments.demo_udakd.pretraining", "nobody", "experiments.demo_udakd.pretraining is 'nobody'"),
        (
            "experiments.demo_udakd.student",
            "fskd_demo",
            "has another network than student minkunet_demo of pretraining",
        ),
        ("pretrainings.udakd_demo.student", "elite_demo", "pretrainings.udakd_demo: .*must be a minkunet"),
        ("pretrainings.udakd_demo.teacher", "sam_tiny", "pretrainings.udakd_demo contrasts features"),
        ("pretrainings.udakd_demo.contrast.stages", [4], "has 4 stages, counted from 0"),
        ("pretrainings.udakd_demo.contrast.pairs", 1, "contrast.pairs: .*greater than or equal to 2"),
        ("teachers.network_demo.images", "nobody", "teachers.network_demo.images is 'nobody', but image_sets:"),
        ("teachers.frozen_tiny.cache_teacher.targets", ["logits"], "steps is 0, which teaches no classes"),
        ("teachers.frozen_tiny.peft.method", "lora", "steps is 0, so peft.method must be none"),
        ("teachers.network_demo.tune_teacher.steps", 0, "teachers.network_demo: "),
        ("datasets.demo.label_images.sam.encoder", "resnet50", "label_images.sam.encoder: .*'sam_tiny'"),
        ("segment_images.segments", 70000, "segment_images.segments: .*less than 32768"),
        ("image_sets.worlds.unknown", ["cars"], "unknown names \\['cars'\\], which are no classes"),
        ("datasets.demo.labelled", {"08": ["000000"]}, "names sequences \\['08'\\], which are not in train"),
        ("datasets.streets_10.of", "nothing", "datasets.streets_10.of is 'nothing'"),
        ("datasets.streets_10.of", "streets_5", "of no other"),
        ("datasets.streets_10.cameras", {"image_2": "P3"}, "shares its files, so it cannot set \\['cameras'\\]"),
        ("datasets.streets_10.train", ["40"], "sequences \\['40'\\] that streets lacks"),
        ("comparisons.ablation.seeds", [1, 1], "a seed stands twice"),
        ("comparisons.ablation.differences", [["a", "b"]], "differences name \\['a', 'b'\\]"),
        ("comparisons.ablation.experiments.x", "nobody", "names experiments \\['nobody'\\]"),
        ("oracles.oracle_60.accuracy", 0.05, "oracles.oracle_60.accuracy: .*greater than 0.05263"),
        ("oracles.best", {"accuracy": 0.5, "seed": 0}, "oracles.best"),
        ("students.elite.train_student.learning_rate", True, "learning_rate: .*valid number"),
        ("students.elite.train_student.learning_rate", "1e-3", "'1e-3' is text and no number"),
        ("students.elite.train_student.epochs", "64", "train_student.epochs: '64' is text"),
        ("students.elite.train_student.seed", -1, "train_student.seed"),
        ("bogus", 1, "bogus: unknown key"),
    ],
)
def test_faults_are_named_with_their_path(values, path, value, message):
    *parents, leaf = path.split(".")
    node = values
    for parent in parents:
        node = node[parent]
    node[leaf] = value
    with pytest.raises(InputError, match=message):
        validate(Config, values, "config.yaml")


def test_all_faults_come_at_once(values):
    values["bogus"] = 1
    del values["datasets"]["demo"]["simulate_drive"]["seed"]
    with pytest.raises(InputError) as error:
        validate(Config, values, "config.yaml")
    assert "bogus" in str(error.value)
    assert "datasets.demo.simulate_drive.seed: this key is missing" in str(error.value)


def test_flat_form_is_sorted_and_reversible():
    tree = {"b": {"y": [1, 2.5], "x": None}, "a": "text=with=equals"}
    flat = flatten(tree)
    assert flat == ['a="text=with=equals"', "b.x=null", "b.y=[1, 2.5]"]
    assert unflatten([*flat, ""]) == tree
    assert flatten({"a": tree["a"], "b": {"x": None, "y": [1, 2.5]}}) == flat


@pytest.mark.parametrize("item", ["novalue", "key=", "key=not json"])
def test_words_that_are_no_settings_are_refused(item):
    with pytest.raises(InputError, match=r"dotted\.key=json"):
        unflatten([item])
