"""What a change invalidates, by Snakemake's own dry run: the whole DAG run once with stages that only make files."""

import re
import shutil
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]

STUB = """
import pathlib, sys
outs = [pathlib.Path(sys.argv[sys.argv.index("--out") + 1])]
name = pathlib.Path(__file__).stem
if name == "train_student":
    outs = [outs[0] / n for n in ("student.safetensors", "config.json", "training.jsonl")]
if name in ("evaluate_miou", "evaluate_teacher", "measure_latency", "evaluate_pseudo_labels", "plot_embedding"):
    outs.append(outs[0].with_suffix(".md"))
if name == "plot_embedding":
    outs.append(outs[0].with_suffix(".png"))
for stage, option in (("evaluate_pseudo_labels", "--gallery"), ("plot_pseudo_labels", "--worst")):
    if name == stage:
        outs.append(pathlib.Path(sys.argv[sys.argv.index(option) + 1]))
for out in outs:
    if out.suffix in (".zarr", "") and not out.name == "README":
        out.mkdir(parents=True, exist_ok=True)
        if name in ("simulate_drive", "simulate_images"):
            (out / "simulated.json").write_text("{}")
    else:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text("x")
"""

AFTER_STUDENT = {
    "train_student",
    "evaluate_miou",
    "measure_latency",
    "plot_predictions",
    "plot_miou",
    "plot_latency",
    "write_card",
    "summarise_experiment",
    "all",
}
AFTER_LATENCY = {"measure_latency", "plot_latency", "write_card", "summarise_experiment", "all"}
AFTER_COMPARISON = {"evaluate_pseudo_labels", "plot_pseudo_labels", "all"}
AFTER_TEACHER = {"cache_teacher", "evaluate_teacher", *AFTER_STUDENT}


@pytest.fixture(scope="module")
def finished(tmp_path_factory, snakemake):
    """A copy of the workflow in which every target of the demo is made and up to date."""
    folder = tmp_path_factory.mktemp("workflow")
    for name in ("Snakefile", "config.yaml"):
        shutil.copy(ROOT / name, folder)
    for name in ("workflow", "envs"):
        shutil.copytree(ROOT / name, folder / name)
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "elite_pipeline", folder / "elite_pipeline", ignore=ignored)
    for stage in (folder / "elite_pipeline/stages").glob("[!_]*.py"):
        stage.write_text(STUB)
    shutil.copy(ROOT / "elite_pipeline/stages/__init__.py", folder / "elite_pipeline/stages/__init__.py")
    (folder / "elite_pipeline/stages/__init__.py").write_text("")
    output = snakemake(folder)
    assert "100%" in output, output
    return folder


UDAKD, FSKD = ["results/demo_udakd_miou.json"], ["results/demo_fskd_miou.json", "results/demo_fskd_embedding.png"]
AFTER_FSKD = {"train_student", "evaluate_miou", "plot_embedding"}


@pytest.fixture
def config(finished):
    """The configuration of `finished`, restored afterwards."""
    path = finished / "config.yaml"
    text = path.read_text()
    yield yaml.safe_load(text)
    path.write_text(text)


def invalidated(snakemake, folder, *targets):
    """(rules that would rerun, the whole dry run)."""
    output = snakemake(folder, "--dry-run", *targets)
    return set(re.findall(r"^(?:local)?rule (\w+):$", output, re.MULTILINE)), output


def test_nothing_to_do_when_finished(finished, snakemake):
    assert "Nothing to be done" in snakemake(finished, "--dry-run")


@pytest.mark.parametrize(
    ("path", "value", "rules", "reason"),
    [
        ("students.elite_demo.train_student.learning_rate", 0.005, AFTER_STUDENT, "train_student.learning_rate=0.005"),
        ("students.elite.train_student.learning_rate", 0.1, set(), ""),
        ("measure_latency.scans", 31, AFTER_LATENCY, "scans=31"),
        ("teachers.sam_tiny.peft.rank", 4, {"tune_teacher", *AFTER_TEACHER}, "peft.rank=4"),
        ("teachers.sam_tiny.cache_teacher.batch", 2, AFTER_TEACHER, "cache_teacher.batch=2"),
        (
            "datasets.demo.label_images.regions.radius",
            9.0,
            {"label_images", "plot_labels", "tune_teacher", *AFTER_COMPARISON, *AFTER_TEACHER},
            '"radius": 9.0',
        ),
        ("pretrain_sam.steps", 7, set(), ""),
        ("evaluate_miou.votes", 5, set(), ""),
        ("datasets.streets_10.labelled", 0.5, set(), ""),
        ("students.fskd_demo.network.embedding", 32, set(), ""),
        ("pretrainings.udakd_demo.contrast.temperature", 0.1, set(), ""),
        (
            "datasets.demo.labelled",
            0.5,
            {"select_labels", "label_images", "plot_labels", "tune_teacher", *AFTER_TEACHER},
            "labelled=0.5",
        ),
        ("evaluate_pseudo_labels.frames", 3, AFTER_COMPARISON, "frames=3"),
        (
            "datasets.demo.label_images.paper.stability",
            0.5,
            AFTER_COMPARISON,
            '"stability": 0.5',
        ),
    ],
)
def test_change_of_one_key(finished, snakemake, config, path, value, rules, reason):
    *parents, leaf = path.split(".")
    node = config
    for parent in parents:
        node = node[parent]
    assert node[leaf] != value
    node[leaf] = value
    (finished / "config.yaml").write_text(yaml.safe_dump(config))
    found, output = invalidated(snakemake, finished)
    assert found == rules, output
    assert reason in output


@pytest.mark.parametrize(
    ("targets", "path", "value", "rules"),
    [
        (UDAKD, "pretrainings.udakd_demo.contrast.temperature", 0.1, {"pretrain_student", *AFTER_FSKD}),
        (UDAKD, "students.minkunet_demo.train_student.backbone_learning_rate", 0.0, AFTER_FSKD),
        (UDAKD, "datasets.demo_10.labelled", 0.2, {"select_labels", *AFTER_FSKD}),
        (UDAKD, "segment_images.segments", 99, set()),
        (FSKD, "students.fskd_demo.losses.features", 0.5, AFTER_FSKD),
        (FSKD, "image_sets.worlds.held_out", 0.2, {"tune_image_teacher", "cache_teacher", *AFTER_FSKD}),
        (
            FSKD,
            "image_sets.worlds.simulate_images.worlds",
            7,
            {"simulate_images", "tune_image_teacher", "cache_teacher", *AFTER_FSKD},
        ),
        (FSKD, "plot_embedding.points", 200, {"plot_embedding"}),
    ],
)
def test_change_of_one_key_without_labels(finished, snakemake, config, targets, path, value, rules):
    """The two methods that need few labels or none; what one of them reads does not concern the other."""
    assert "100%" in snakemake(finished, *UDAKD, *FSKD) or "Nothing to be done" in snakemake(finished, *UDAKD, *FSKD)
    *parents, leaf = path.split(".")
    node = config
    for parent in parents:
        node = node[parent]
    node[leaf] = value
    (finished / "config.yaml").write_text(yaml.safe_dump(config))
    found, output = invalidated(snakemake, finished, *targets)
    assert found == rules - (set() if targets == FSKD else {"plot_embedding"}), output
    others = [target for target in (*UDAKD, *FSKD) if target not in targets]
    assert "Nothing to be done" in snakemake(finished, "--dry-run", *others)


def test_reordered_keys_other_spelling_and_touched_files_change_nothing(finished, snakemake, config):
    def backwards(node):
        return {k: backwards(node[k]) for k in reversed(list(node))} if isinstance(node, dict) else node

    text = yaml.safe_dump(backwards(config), sort_keys=False).replace("weight_decay: 0.05", "weight_decay: 5.0e-2")
    (finished / "config.yaml").write_text(text)
    for file in [*finished.glob("elite_pipeline/**/*.py"), *finished.glob("workflow/**/*.smk"), finished / "Snakefile"]:
        file.touch()
    assert "Nothing to be done" in snakemake(finished, "--dry-run")


def test_added_sequence_makes_only_its_own_stores_anew(finished, snakemake, config):
    config["datasets"]["demo"]["train"].append("06")
    (finished / "config.yaml").write_text(yaml.safe_dump(config))
    output = snakemake(finished, "--dry-run", "cache/demo/projection/06.zarr", "cache/demo/projection/00.zarr")
    assert re.findall(r"^rule (\w+):$", output, re.MULTILINE).count("project_points") == 1
    found, _ = invalidated(snakemake, finished)
    assert {"simulate_drive", "tune_teacher", "train_student"} <= found


def test_unrelated_entries_may_come_and_go(finished, snakemake, config):
    del config["experiments"]["sample"], config["datasets"]["sample"], config["teachers"]["sam_tiny_sample"]
    config["datasets"]["semkitti"]["cameras"]["image_3"] = "P3"
    # Of students: all that have keys which the demo's lacks.
    minkunets = {name for name, student in config["students"].items() if student["network"].get("kind") == "minkunet"}
    for section in ("experiments", "pretrainings"):
        config[section] = {n: e for n, e in config[section].items() if e["student"] not in minkunets}
    config["students"] = {n: s for n, s in config["students"].items() if n not in minkunets}
    config["comparisons"] = {n: config["comparisons"][n] for n in ("ablation", "label_fractions")}
    (finished / "config.yaml").write_text(yaml.safe_dump(config))
    assert "Nothing to be done" in snakemake(finished, "--dry-run")


def test_real_recording_is_tracked_by_its_parts(finished, snakemake, config):
    """New labels rerun the index; a folder that somebody else writes beside them does not."""
    for sequence in ("00", "08"):
        for part in ("velodyne", "labels", "image_2", "image_0"):
            (finished / f"data/sample/sequences/{sequence}/{part}").mkdir(parents=True)
    target = "cache/sample/projection/00.zarr"
    assert "100%" in snakemake(finished, target)
    (finished / "data/sample/sequences/00/predictions").mkdir()
    assert "Nothing to be done" in snakemake(finished, "--dry-run", target)
    (finished / "data/sample/sequences/00/labels/000009.label").touch()
    output = snakemake(finished, "--dry-run", target)
    assert "rule index_frames" in output
    assert "Updated input files: data/sample/sequences/00/labels" in output


def test_edited_stage_reruns_it_and_reverting_does_not(finished, snakemake):
    source = finished / "elite_pipeline/stages/measure_latency.py"
    text = source.read_text()
    source.write_text(text + "\n# edited\n")
    found, _ = invalidated(snakemake, finished)
    assert found == AFTER_LATENCY
    source.write_text(text)
    assert "Nothing to be done" in snakemake(finished, "--dry-run")
