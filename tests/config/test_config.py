"""The configuration refuses unknown and wrong values. Errors name the key path and the remedy."""

import re
from pathlib import Path

import pytest

from elite_pipeline.config import Config, read
from elite_pipeline.config.reading import COMPARISONS, completed, load
from elite_pipeline.config.validation import flatten, unflatten, validate
from elite_pipeline.errors import InputError

ROOT = Path(__file__).parents[2]
FILES = ROOT / "config.yaml", ROOT / COMPARISONS


@pytest.fixture
def values():
    """Both shipped files combined, not validated."""
    return completed(*map(load, FILES))


def test_shipped_config_is_valid():
    assert {"demo", "sample", "semkitti", "streets_10"} <= set(read(*FILES).experiments)


def test_config_yaml_is_short_and_holds_no_comparison():
    text = FILES[0].read_text()
    assert len(text.splitlines()) <= 250
    assert not re.search("streets|transfer|zero_shot|oracle", text.replace("config/comparisons.yaml", ""))
    assert read(FILES[0]).comparisons == {}


@pytest.mark.parametrize("file", FILES, ids=["config", "comparisons"])
def test_no_anchors(file):
    assert not re.search(r"[:\[{,]\s*[&*]\w|<<:", file.read_text())


def test_comparisons_need_no_entry_of_config_yaml():
    """A user may delete all other experiments. Entries in both files are equal."""
    own, comparisons = map(load, FILES)
    kept = {name: entries for name, entries in own.items() if name not in {*comparisons, "pretrainings"}}
    alone = Config.model_validate(Config.spelt_out(kept | comparisons))
    whole = read(FILES[0])
    for section in comparisons:
        for name in set(getattr(whole, section)) & set(getattr(alone, section)):
            assert getattr(whole, section)[name] == getattr(alone, section)[name], (section, name)


def test_a_users_entry_replaces_the_comparisons_entry_of_that_name(values):
    mine = {"datasets": {"streets": {"cameras": {"image_2": "P2"}}}, "oracles": None}
    found = completed(mine, values)
    assert found["datasets"]["streets"] == mine["datasets"]["streets"]
    assert found["datasets"]["demo"] == values["datasets"]["demo"]
    assert found["oracles"] == values["oracles"]


def test_every_key_is_explained(values):
    """A comment is on the line of the key, or names the key."""
    for comparison in values["comparisons"].values():
        comparison["experiments"] = "labels are free text"
    keys = {item.partition("=")[0].split(".")[-1] for item in flatten(values)} - {f"image_{k}" for k in range(4)}
    text = "".join(file.read_text() for file in FILES)
    unexplained = sorted(k for k in keys if not re.search(rf"^\s*{k}:.*#|#.*\b{k}\b", text, re.MULTILINE))
    assert not unexplained


LORA = {"method": "lora", "rank": 8, "alpha": 8, "targets": ["qkv"]}


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
            "datasets.demo.train.1: 8 is not a valid name; write the name of the sequence in quotes, .*08",
        ),
        ("datasets.demo.train", ["a/b"], "datasets.demo.train.0: 'a/b' is not a valid name; use letters, digits"),
        ("datasets.demo.train", [".."], "datasets.demo.train.0: '..' is not a valid name"),
        ("datasets.demo.train", "mini_train", "'mini_train' is no list of sequences. Give a list: this format has no"),
        ("datasets.nuscenes.train", "trian", "Give a list or one of the official splits train, val, test, mini_train"),
        ("datasets.demo.format", "waymo", "datasets.demo.format: unknown format 'waymo'; choose .*semantickitti"),
        ("datasets.demo.classes", "waymo", "datasets.demo.classes: .*waymo: there is no such class table"),
        ("datasets.demo.val", ["00"], "datasets.demo: .*both train and val"),
        ("datasets.city.simulate_drive.apart", 1.0, "datasets.city.simulate_drive: .*Set surround: true"),
        (
            "datasets.city.simulate_drive.world",
            "town",
            "datasets.city.simulate_drive.world: .*'city'.*'town'",
        ),
        ("datasets.city.simulate_drive.noise.labels", 2.0, "datasets.city.simulate_drive.noise.labels: .*less than"),
        ("datasets.city.simulate_drive.noise.smell", 1, "noise.smell: unknown key; the keys here are calibration"),
        ("datasets.demo.cameras", {"image/2": "P2"}, "datasets.demo.cameras.image/2.*: 'image/2' is not a valid name"),
        ("datasets.demo.cameras.image_2", 2, "datasets.demo.cameras.image_2: .*valid string"),
        ("datasets.semkitti.label_images.sam", None, "labeller is 'regions', so it needs a section 'sam:'"),
        ("teachers.sam_vit_b.sha256", None, "teachers.sam_vit_b: encoder vit_b needs checkpoint and sha256"),
        ("teachers.sam_vit_b.sha256", "abc", "teachers.sam_vit_b.sha256"),
        ("teachers.sam_vit_b.peft.initial_rank", 4, "AdaLoRA only prunes"),
        ("experiments.demo.student", "nobody", "experiments.demo.student is 'nobody', but students: has only"),
        ("experiments.demo.dataset", 5, "experiments.demo.dataset: Input should be a valid string; it is 5"),
        ("datasets.demo.train", ["00", "00"], "lists a sequence twice"),
        ("datasets.semkitti.label_images.sam.checkpoint", None, "sam: encoder vit_h needs checkpoint and sha256"),
        ("teachers.sam_vit_b.longest_side", 2048, "longest_side 2048 is above 1024 pixels"),
        ("teachers.sam_tiny.cache_teacher.targets", ["features"], "experiments.demo: .*Add logits"),
        (
            "students.elite_demo.network.scales",
            [2, 4],
            "experiments.demo: .*2 scales, but teacher sam_tiny has 4 stages",
        ),
        ("students.elite_demo.losses.features", 1.0, "experiments.demo: .*distils features, .*does not cache"),
        ("students.elite_demo.losses.stages", [4], "experiments.demo: losses.stages .*has 4 stages, counted from 0"),
        ("students.minkunet_demo.losses.calibrated", True, "no loss reads soft labels. Raise one of them"),
        ("students.elite_demo.losses.calibrated", 1, "students.elite_demo.losses.calibrated: "),
        ("students.elite_demo.train_student.steps", 9, "either epochs or steps"),
        ("students.elite_demo.train_student.labelled_share", 0.1, "of a batch of 2 rounds to no scan"),
        ("students.elite_demo.train_student.labelled_share", 0.75, "of a batch of 2 rounds to all scans"),
        ("students.elite_demo.train_student.unlabelled", -1, "train_student.unlabelled"),
        ("students.elite_streets.train_student.unlabelled", 1, "unlabelled adds scans to the batch.*Give one of them"),
        ("students.elite_demo.losses.output", 0.0, "only the loss of the output reads.*output is 0"),
        ("students.elite_demo.losses.targets", "both", "losses.targets: .*'frame' or 'aggregated'"),
        ("students.elite_demo.losses.confident", 0.0, "losses.confident"),
        ("students.elite_demo.losses.carried", -1.0, "losses.carried"),
        ("students.fskd_demo.losses.carried", 1.0, "demo_fskd: no scan of demo_0 has labels, so none can be"),
        ("datasets.demo.labelled", -0.1, "datasets.demo.labelled"),
        ("datasets.demo.labelled", 0.0, "experiments.demo: no scan of demo has labels, .*teacher sam_tiny"),
        ("datasets.demo_10.labelled", 0.0, "experiments.demo_udakd: no scan of demo_10 has labels, .*no teacher"),
        (
            "students.minkunet_demo.network.kind",
            "unet",
            "students.minkunet_demo.network: kind must be spvcnn or minkunet",
        ),
        ("students.minkunet_demo.network.blocks", [1, 1], "network: planes is .*as many stages down as up"),
        ("students.minkunet34.network.voxel_size", [0.1, 1.0], "students.minkunet34.network.voxel_size"),
        ("students.minkunet34.network.volume", [[0.0, 80.0], [0.0, 360.0], [-5.0, 3.0]], "cylindrical frame"),
        ("students.minkunet_demo.network.classifier", "shared", "classifier needs an embedding"),
        ("students.fskd_demo.losses.auxiliary", 1.0, "experiments.demo_fskd: .*has no stages"),
        ("experiments.demo_fskd.teacher", "sam_tiny", "experiments.demo_fskd: .*shares its teacher's classifier"),
        ("experiments.demo_udakd.pretraining", "nobody", "experiments.demo_udakd.pretraining is 'nobody'"),
        (
            "experiments.demo_udakd.student",
            "fskd_demo",
            "has a different network from student minkunet_demo of pretraining",
        ),
        ("pretrainings.udakd_demo.student", "elite_demo", "pretrainings.udakd_demo.student: .*must be a minkunet"),
        ("pretrainings.udakd_demo.teacher", "sam_tiny", "pretrainings.udakd_demo contrasts features"),
        ("pretrainings.udakd_demo.contrast.stages", [4], "has 4 stages, counted from 0"),
        ("pretrainings.udakd_demo.contrast.pairs", 1, "contrast.pairs: .*greater than or equal to 2"),
        ("teachers.network_demo.images", "nobody", "teachers.network_demo.images is 'nobody', but image_sets:"),
        ("teachers.frozen_tiny.cache_teacher.targets", ["logits"], "steps is 0, so the teacher learns no classes"),
        (
            "teachers.sam_vit_b.cache_teacher.views",
            ["plain", "scaled"],
            "enlarges images to 1280 pixels, but 1024 is the maximum of vit_b's position embeddings.* Remove scaled, or"
            " lower longest_side to 819",
        ),
        (
            "teachers.frozen_tiny.peft",
            LORA,
            "teachers.frozen_tiny: tune_teacher.steps is 0, so peft.method must be none",
        ),
        ("teachers.frozen_tiny.peft", {"method": "none", "rank": 8}, "peft: method none does not use rank. Remove"),
        ("teachers.frozen_tiny.peft", {"method": "lora"}, "peft: method lora needs alpha, rank, targets"),
        ("teachers.frozen_tiny.upscaler", 64, "steps is 0, so upscaler would be unused. Remove them"),
        ("teachers.frozen_tiny.tune_teacher.batch", 4, "steps is 0, so tune_teacher.batch would be unused"),
        ("teachers.frozen_tiny.tune_teacher.steps", 9, "frozen_tiny.tune_teacher: 9 steps need batch, learning_rate"),
        (
            "teachers.frozen_tiny.tune_teacher.held_out",
            0.2,
            "frozen_tiny.tune_teacher: steps is 0, so held_out would be",
        ),
        ("teachers.network_demo.tune_teacher.held_out", 0.2, "every scan is held out. Remove it"),
        ("teachers.sam_tiny.tune_teacher.held_out", 1.0, "teachers.sam_tiny.tune_teacher.held_out: "),
        ("teachers.sam_tiny.upscaler", None, "teachers.sam_tiny: tune_teacher.steps is 120, so upscaler is needed"),
        ("teachers.sam_tiny.encoder", "vit_x", "teachers.sam_tiny.encoder: unknown encoder; .*resnet50"),
        ("teachers.frozen_resnet50.peft", LORA, "encoder resnet50 takes no adapters: peft.method must be none"),
        ("teachers.network_demo.tune_teacher.steps", 0, "teachers.network_demo: "),
        ("datasets.demo.label_images.sam.encoder", "resnet50", "label_images.sam.encoder: .*'sam_tiny'"),
        ("segment_images.segments", 70000, "segment_images.segments: .*less than 32768"),
        ("image_sets.worlds.unknown", ["cars"], "`unknown` lists \\['cars'\\], which are no classes"),
        ("datasets.demo.labelled", {"08": ["000000"]}, "lists sequences \\['08'\\], which are not in train"),
        ("datasets.streets_10.of", "nothing", "datasets.streets_10.of is 'nothing'; choose one of .*demo"),
        ("datasets.streets_10.of", ["streets"], r"datasets.streets_10.of is \['streets'\]; choose one of"),
        ("teachers.network_demo.of", "nothing", "config.yaml: teachers.network_demo.of is 'nothing'; choose one of"),
        ("teachers.network_demo.of", None, "teachers.network_demo.of is None; choose one of"),
        ("students.fskd_demo.of", {"a": 1}, "students.fskd_demo.of is {'a': 1}; choose one of"),
        ("students.fskd_demo.of", "fskd_demo", "students.fskd_demo.of names itself; choose another one of"),
        ("students.minkunet_demo.of", "fskd_demo", "of closes a circle: .*minkunet_demo of fskd_demo of minkunet_demo"),
        (
            "pretrainings.udakd_streets.of",
            "superpixels_streets",
            "pretrainings.*: udakd_streets of superpixels_streets",
        ),
        ("datasets.streets_10.of", "streets_5", "is itself a variant of 'streets'"),
        ("datasets.streets_10.cameras", {"image_2": "P3"}, "shares its files, so it cannot set \\['cameras'\\]"),
        ("datasets.streets_10.train", ["40"], "sequences \\['40'\\] that streets lacks"),
        ("comparisons.ablation.seeds", [1, 1], "has a seed twice"),
        ("comparisons.ablation.differences", [["a", "b"]], "differences name \\['a', 'b'\\]"),
        ("comparisons.ablation.experiments.x", "nobody", "comparisons.ablation.experiments names \\['nobody'\\]"),
        ("oracles.oracle_60.accuracy", 0.05, "oracles.oracle_60.accuracy: .*greater than 0.05263"),
        ("oracles.sam_tiny", {"accuracy": 0.5, "seed": 0}, "oracles.sam_tiny has the name of teachers.sam_tiny"),
        (
            "experiments.semkitti.teacher",
            "oracle_60",
            "experiments.semkitti.teacher .*datasets.semkitti has no simulate",
        ),
        ("comparisons.oracles.figure", "pie", "comparisons.oracles.figure: .*'curves'"),
        (
            "comparisons.oracles.figure",
            "arms",
            "comparisons.oracles: experiments.labels alone lacks its arm or its setting",
        ),
        ("comparisons.oracles.figure", "curves", "comparisons.oracles.figure is curves, but .* is an oracle"),
        ("comparisons.zero_shot.figure", "oracles", "comparisons.zero_shot.figure is oracles, but no experiment has"),
        (
            "comparisons.transfer.figure",
            "rows",
            "comparisons.transfer: experiments.random, 1 scan has an arm or a setting",
        ),
        (
            "comparisons.transfer.experiments.again",
            {"experiment": "transfer_2_random", "arm": "random", "setting": "1 scan"},
            "experiments.again has the same arm and setting as experiments.random, 1 scan",
        ),
        ("students.elite.train_student.learning_rate", True, "learning_rate: .*valid number"),
        ("students.elite.train_student.learning_rate", "1e-3", "'1e-3' is text, not a number"),
        ("students.elite.train_student.epochs", "64", "train_student.epochs: '64' is text"),
        ("students.elite.train_student.seed", -1, "train_student.seed"),
        ("bogus", 1, "bogus: unknown key"),
        ("teachers.sam_tiny_sample.tune_teacher.stepz", 1, "teachers.sam_tiny_sample.tune_teacher.stepz: unknown key"),
    ],
)
def test_faults_are_reported_with_their_path(values, path, value, message):
    *parents, leaf = path.split(".")
    node = values
    for parent in parents:
        node = node[parent]
    node[leaf] = value
    with pytest.raises(InputError, match=message):
        validate(Config, values, "config.yaml")


def test_all_faults_are_reported_together(values):
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
def test_malformed_settings_are_refused(item):
    with pytest.raises(InputError, match=r"dotted\.key=json"):
        unflatten([item])


def test_duplicate_keys_and_unreadable_files_are_refused(tmp_path):
    path = tmp_path / "twice.yaml"
    path.write_text("datasets:\n  a: {of: b}\n  a: {of: c}\n")
    with pytest.raises(InputError, match=r"twice\.yaml: key 'a' is in line 2 and again in line 3"):
        load(path)
    path.write_text("a: [\n")
    with pytest.raises(InputError, match=r"twice\.yaml: is not valid YAML"):
        load(path)
    with pytest.raises(InputError, match=r"missing\.yaml: cannot be read"):
        load(tmp_path / "missing.yaml")


@pytest.mark.parametrize(
    ("losses", "fault"),
    [
        ({"targets": "aggregated", "output": 0.3}, r"losses\.targets of student .* Write poses: estimated"),
        ({"carried": 0.5}, r"losses\.carried of student .* losses\.carried: 0\.0"),
    ],
)
def test_targets_that_poses_carry_are_refused_without_poses(values, losses, fault):
    values["students"]["elite_demo"]["losses"] |= {"targets": "frame", **losses}
    values["datasets"]["sample"]["poses"] = "recorded"
    validate(Config, values, "config.yaml")
    values["datasets"]["demo"]["poses"] = "none"
    with pytest.raises(InputError, match=r"experiments\.demo: " + fault):
        validate(Config, values, "config.yaml")
    # Without a teacher there are no targets to aggregate.
    values["experiments"]["demo"]["teacher"] = None
    if "carried" not in losses:
        validate(Config, values, "config.yaml")


def test_aggregated_targets_need_a_teacher_with_soft_labels(values):
    values["students"]["elite_demo"]["losses"] |= {"targets": "aggregated", "output": 0.3}
    values["teachers"]["sam_tiny"]["cache_teacher"]["targets"] = ["features"]
    with pytest.raises(InputError, match=r"experiments\.demo: .*Add logits"):
        validate(Config, values, "config.yaml")


def test_a_data_set_changes_single_keys_of_aggregation_for_its_lidar(values):
    own = {"voxel_size": 0.5, "things": {"frames": 7}}
    values["datasets"]["demo"]["aggregate_targets"] = own
    whole = validate(Config, values, "config.yaml")
    common, changed = whole.aggregate_targets, whole.datasets["demo"].aggregate_targets
    assert changed is not None
    assert (changed.voxel_size, changed.things.frames) == (0.5, 7)
    assert (changed.distance, changed.things.voxel_size) == (common.distance, common.things.voxel_size)
    assert whole.datasets["demo_10"].aggregate_targets == changed, "a variant takes the keys of its origin"
    assert whole.datasets["semkitti"].aggregate_targets is None
    values["datasets"]["demo"]["aggregate_targets"] = {"voxels": 0.5}
    with pytest.raises(InputError, match=r"datasets\.demo\.aggregate_targets\.voxels: unknown key"):
        validate(Config, values, "config.yaml")


def test_official_splits_and_lists_of_cameras_are_spelt_out():
    dataset = read(FILES[0]).datasets["nuscenes"]
    assert (len(dataset.train), len(dataset.val)) == (700, 150)
    assert dataset.train[0] == "scene-0001"
    assert next(iter(dataset.cameras.items())) == ("CAM_FRONT", "CAM_FRONT")
    assert len(dataset.cameras) == 6
