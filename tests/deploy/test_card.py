"""The model card: a valid YAML header, every measured number in its place, and no claim without evidence."""

import json

import numpy as np
import pytest
import yaml

from elite_pipeline.datasets.classes import class_table
from elite_pipeline.deploy.card import card, read_result, refuse_other_weights
from elite_pipeline.errors import InputError
from elite_pipeline.evaluation import latency
from elite_pipeline.student.model import weights_sha256

CLASSES = class_table("semantickitti").names
NETWORK = {
    "kind": "spvcnn",
    "voxel_size": 0.25,
    "volume": [[-40.0, 30.0], [-20.5, 20.5], [-4.0, 2.0]],
    "scales": [2, 4],
    "width": 24,
}


@pytest.fixture
def config(classes):
    return {
        "experiment": "yes",  # YAML would read it as a boolean
        "classes": classes.to_json(),
        "network": NETWORK,
        "trained_on": ["03", "05"],
        "scans": 1234,
        "labelled_scans": 17,
        "labelled_classes": {"car": 4321, "road": 98765, "pole": 0},
        "taught": True,
        "pretrained": None,
        "parameters": 1933460,
        "steps": 4500,
        "settings": {"network": NETWORK, "train_student": {"steps": 4500, "epochs": None, "batch": 6, "seed": 11}},
        "versions": {"python": "3.11.7", "torch": "2.13.0"},
        "device": "the device that trained",
        "commit": None,
    }


@pytest.fixture
def miou(miou_result):
    about = {"dataset": "toy", "split": "val", "sequences": ["08", "09"], "scans": 3456, "tta": False, "votes": 1}
    return miou_result | about | {"weights_sha256": "ab" * 32, "commit": "c0ffee", "device": "the device that scored"}


@pytest.fixture
def speed():
    """A latency result: 100 scans of 20 to 59.6 ms, 55 of them under 41.7 ms."""
    total = np.linspace(20.0, 59.6, 100)
    samples = {"total": total, "forward": total - 1}
    return latency.summary(samples, [120_000] * 100) | {"precision": "16-true", "device": "the device that was timed"}


def section(text, name):
    return text.split(f"\n## {name}\n")[1].split("\n## ")[0]


def rows(text):
    return {
        cells[0]: cells[1:]
        for cells in ([c.strip(" *") for c in r.split("|")[1:-1]] for r in text.splitlines())
        if cells
    }


def test_header_is_yaml_for_the_hub(config, miou, speed):
    text = card(config, miou, speed, teacher="sam_x", simulated=False)
    _, header, body = text.split("---\n", 2)
    front = yaml.safe_load(header)
    assert set(front) == {"library_name", "tags", "model-index"}  # no licence: none is known
    assert front["library_name"] == "elite_pipeline"
    assert "lidar" in front["tags"]
    (entry,) = front["model-index"]
    assert entry["name"] == "yes"
    assert entry["results"][0]["dataset"] == {"type": "toy", "name": "toy", "split": "val"}
    assert entry["results"][0]["metrics"][0]["value"] == 0.0714
    assert body.startswith("\n# yes: ")
    assert "\n\n\n" not in body
    assert "No licence is stated" in body


def test_measured_numbers(config, miou, speed):
    measured = section(card(config, miou, speed, teacher="sam_x", simulated=False), "Measured")
    table = rows(measured)
    assert list(table)[2:-1] == list(CLASSES[1:])
    assert (table["car"], table["road"], table["truck"]) == (["50.0", "100"], ["85.7", "1,000"], ["0.0", "0"])
    assert table["mean of 19"] == ["7.1", "1,100"]
    assert "**7.1 % mIoU** on 3,456 whole scans of toy (val sequences 08, 09)." in measured
    assert "single pass" in measured
    assert "**39.8 ms per scan** at the median, 59.2 ms at the 99th percentile" in measured
    assert "Device: the device that was timed; precision: 16-true." in measured
    assert "55 % of 100 scans met the budget of 41.7 ms (24 Hz). The 99th percentile is not within" in measured
    assert "120,000 points" in measured
    fast = latency.summary({"total": [3.0, 4.0]}, [9, 9]) | {"precision": "32-true", "device": "x"}
    measured = section(card(config, miou, fast, teacher=None, simulated=False), "Measured")
    assert "100 % of 2 scans met the budget of 41.7 ms (24 Hz). The 99th percentile is within the budget." in measured


def test_training_says_which_classes_had_labels(config, miou, speed):
    table = rows(section(card(config, miou, speed, teacher="sam_x", simulated=False), "Training"))
    assert table["data set"] == ["toy, sequences 03, 05"]
    assert table["scans"] == ["1,234, 17 of them with labels"]
    (classes,) = table["classes with labels"]
    known, unknown = classes.split("; no labels for ")
    assert known == "car (4,321 points), road (98,765 points)"
    assert unknown.split(", ") == [name for name in CLASSES[1:] if name not in ("car", "road")]
    assert table["backbone"] == ["random initial weights"]
    assert table["training"] == ["4,500 steps, batch 6, seed 11, on the device that trained"]
    for counts, said in (({}, "none"), (dict.fromkeys(CLASSES[1:], 1), "traffic-sign (1 points)")):
        text = card(config | {"labelled_classes": counts}, miou, speed, teacher=None, simulated=False)
        assert rows(section(text, "Training"))["classes with labels"][0].endswith(said)


@pytest.mark.parametrize(
    ("taught", "teacher", "oracle", "said", "unsaid"),
    [
        (True, "sam_x", None, "`sam_x`, an image network", "diagnostic"),
        (True, "right", {"accuracy": 0.8, "seed": 0}, "`right`, an oracle", "image network"),
        (False, "sam_x", None, "labels alone", "sam_x"),
        (False, None, None, "labels alone", "None"),
    ],
)
def test_names_the_teacher(config, miou, speed, taught, teacher, oracle, said, unsaid):
    miou |= {"oracle": oracle}
    text = card(config | {"taught": taught}, miou, speed, teacher=teacher, simulated=False)
    assert said in rows(section(text, "Training"))["teacher"][0]
    assert unsaid not in text


def test_states_the_quality_of_the_soft_labels(config, miou, speed):
    points = {"all": {"scans": 9, "mean": {"accuracy": 0.754, "miou": 0.4}}, "unlabelled": None}
    for taught, given, said in (
        (True, points, "75.4 % accuracy and 40.0 % mIoU at the visible labelled points of 9 training scans"),
        (True, None, "not measured"),
        (False, points, "not measured"),
    ):
        text = card(config | {"taught": taught}, miou, speed, teacher="sam_x", points=given, simulated=False)
        assert rows(section(text, "Training"))["teacher's soft labels"] == [said]


def test_warns_that_the_drives_are_simulated(config, miou, speed):
    real, simulated = (card(config, miou, speed, teacher=None, simulated=flag) for flag in (False, True))
    assert "simulated" not in real
    assert simulated.count("simulated") == 2
    assert "nothing about real scans" in section(simulated, "Intended use and limits")


def test_input_output_and_use(config, miou, speed):
    text = card(config, miou, speed, teacher=None, simulated=False)
    described = section(text, "Input and output")
    assert "A sparse point-voxel network of 1,933,460 parameters" in text
    assert "x -40 to 30 m, y -20.5 to 20.5 m, z -4 to 2 m;" in described
    assert "voxels of 0.25 m, 24 channels, scales 2, 4." in described
    assert "metres" in described
    assert "1 car, 2 bicycle," in described
    assert "19 traffic-sign." in described
    assert "0 unlabeled" not in described
    use = section(text, "Use")
    assert "elite-pipeline predict --model models/yes scan.bin --out labels/" in use
    compile("\n".join(line.strip() for line in use.split("On the command line")[0].splitlines()), "use", "exec")
    table = rows(section(text, "Provenance"))
    assert table["weights"] == [f"`student.safetensors`, sha256 `{'ab' * 32}`"]
    assert table["parameters"] == ["1,933,460"]
    assert table["trained with"] == ["commit unknown; python 3.11.7, torch 2.13.0"]
    assert table["scored with"] == ["commit c0ffee, on the device that scored"]


@pytest.fixture
def unet():
    """MinkUNet-34 with cylindrical voxels and its teacher's classifier."""
    return {
        "kind": "minkunet",
        "frame": "cylindrical",
        "voxel_size": [0.1, 1.0, 0.15],
        "volume": [[0.0, 80.0], [-180.0, 180.0], [-5.0, 3.0]],
        **{"stem": 32, "planes": [32, 64, 96, 48], "blocks": [2, 3, 2, 2]},
        "embedding": 64,
        "adaptation": {"layers": 3, "pooling": 4},
        "classifier": "shared",
    }


def test_a_unet_is_described(config, unet, miou, speed):
    text = card(config | {"network": unet}, miou, speed, teacher="net", simulated=False)
    described = section(text, "Input and output")
    assert "A sparse U-Net of 1,933,460 parameters" in text
    assert "range 0 to 80 m, azimuth -180 to 180 deg, height -5 to 3 m;" in described
    assert "MinkUNet, cylindrical voxels of 0.1 m x 1 deg x 0.15 m; channels 32, 64, 96, 48;" in described
    assert "an embedding of 64; a domain-adaptation module of 3 layers; its teacher's classifier." in described
    bare = unet | {"frame": "cartesian", "embedding": None, "adaptation": None, "classifier": "own"}
    described = section(
        card(config | {"network": bare}, miou, speed, teacher=None, simulated=False), "Input and output"
    )
    assert "x 0 to 80 m, y -180 to 180 m, z -5 to 3 m;" in described
    assert "cartesian voxels of 0.1 m x 1 m x 0.15 m; channels 32, 64, 96, 48.\n" in described


def test_zero_shot_names_the_classes_that_its_teacher_does_not_know(config, unet, miou, speed):
    known = [name for name in CLASSES[1:] if name not in ("bus", "trunk", "parking")]
    config |= {"network": unet, "labelled_scans": 0, "labelled_classes": {}}
    miou |= {"known_classes": known, "miou_known": 0.0798}
    text = card(config, miou, speed, teacher="net", simulated=False)
    assert "# yes: a zero-shot LiDAR segmentation student" in text
    limits = section(text, "Intended use and limits")
    assert "It has seen no 3D labels" in limits
    assert "Its teacher does not know parking, trunk" in limits
    table = rows(section(text, "Training"))
    assert table["scans"] == ["1,234, 0 of them with labels"]
    assert table["classes with labels"] == ["none"]
    assert "the student reuses its classifier" in table["teacher"][0]
    assert "zero-shot" in table["teacher"][0]
    measured = section(text, "Measured")
    assert "**7.1 % mIoU** over all 19 classes, **8.0 %** over the 17 that its teacher knows, on 3,456" in measured
    assert rows(measured)["mean of the 17 known"] == ["8.0", "1,100"]
    _, scored = yaml.safe_load(text.split("---\n")[1])["model-index"][0]["results"][0]["metrics"]
    assert (scored["name"][:28], scored["value"]) == ("mIoU over the 17 classes tha", 0.0798)
    assert "zero-shot" not in card(config | {"labelled_scans": 1}, miou, speed, teacher="net", simulated=False)


def test_the_pretrained_backbone_is_named(config, miou, speed):
    text = card(config | {"taught": False, "pretrained": "udakd-seed3"}, miou, speed, teacher=None, simulated=False)
    table = rows(section(text, "Training"))
    assert table["backbone"][0].startswith("`udakd-seed3`, pre-trained without labels")
    assert table["teacher"] == ["none: trained from labels alone"]


def test_scores_of_other_weights_and_of_votes_are_refused(untrained_model, tmp_path):
    result = {"weights_sha256": weights_sha256(untrained_model), "tta": False}
    refuse_other_weights(untrained_model, "results/x_miou.json", result)
    with pytest.raises(InputError, match=r"results/x_miou\.json .*00ff.*safetensors.*Rerun evaluate_miou"):
        refuse_other_weights(untrained_model, "results/x_miou.json", result | {"weights_sha256": "00ff"})
    with pytest.raises(InputError, match=r"results/x_miou_tta\.json .*test-time augmentation"):
        refuse_other_weights(untrained_model, "results/x_miou_tta.json", result | {"tta": True})
    with pytest.raises(InputError, match=r"nowhere.*student\.safetensors.*Train"):
        refuse_other_weights(tmp_path / "nowhere", "results/x_miou.json", result)


def test_unreadable_results_are_reported(tmp_path):
    path = tmp_path / "x_latency.json"
    for content in (None, '{"phases": '):
        if content:
            path.write_text(content)
        with pytest.raises(InputError, match=r"x_latency\.json.*Run measure_latency: snakemake .*x_latency\.json"):
            read_result(path, "measure_latency")
    path.write_text(json.dumps({"hz": 1}))
    assert read_result(path, "measure_latency") == {"hz": 1}


def test_card_of_a_student_of_nuscenes_says_how_to_read_its_scans(config, miou, speed):
    text = card(config | {"scan_format": "nuscenes"}, miou, speed, teacher="sam_x", simulated=False)
    assert 'points = read_scan(Path("scan.pcd.bin"), predict.classes)\n' in section(text, "Use")
    assert "from nuScenes' `.pcd.bin` by `read_scan`" in section(text, "Input and output")
    assert "Official nuScenes-lidarseg protocol" in section(
        card(config, miou | {"absent": "left out"}, speed, teacher="sam_x", simulated=False), "Measured"
    )
