"""The jobs that a change reruns, by Snakemake's dry run, after one run of the DAG with stages that only make files."""

import pytest
import yaml

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
AFTER_AGGREGATION = {"aggregate_targets", "plot_aggregation", "evaluate_teacher", *AFTER_STUDENT}
AFTER_TEACHER = {"cache_teacher", *AFTER_AGGREGATION}
AFTER_FSKD = {"train_student", "evaluate_miou", "plot_embedding"}


@pytest.fixture
def config(finished):
    """The configuration of `finished`. The file is restored after the test."""
    path = finished / "config.yaml"
    text = path.read_text()
    yield yaml.safe_load(text)
    path.write_text(text)


def rules(jobs):
    return {job.rule for job in jobs}


def change(finished, config, path, value):
    """Set the key at dotted `path` of the configuration and write the file."""
    *parents, leaf = path.split(".")
    node = config
    for parent in parents:
        node = node[parent]
    assert node.get(leaf) != value  # a missing key has its default
    node[leaf] = value
    (finished / "config.yaml").write_text(yaml.safe_dump(config))


def test_nothing_to_do_when_finished(finished, dry_run, snakemake, targets):
    for made in targets.values():
        assert dry_run(finished, *made) == []
    assert "Nothing to be done" in snakemake(finished, "--dry-run"), "the snakemake command gives the same result"


@pytest.mark.parametrize(
    ("path", "value", "expected", "reason"),
    [
        ("students.elite_demo.train_student.learning_rate", 0.005, AFTER_STUDENT, "train_student.learning_rate=0.005"),
        ("students.elite.train_student.learning_rate", 0.1, set(), ""),
        ("measure_latency.scans", 31, AFTER_LATENCY, "scans=31"),
        ("teachers.sam_tiny.peft.rank", 4, {"tune_teacher", *AFTER_TEACHER}, "peft.rank=4"),
        ("teachers.sam_tiny.cache_teacher.batch", 2, AFTER_TEACHER, "cache_teacher.batch=2"),
        ("teachers.sam_tiny.cache_teacher.views", ["plain", "mirrored"], AFTER_TEACHER, "cache_teacher.views="),
        (
            "datasets.demo.label_images.regions.radius",
            9.0,
            {"label_images", "plot_labels", "tune_teacher", *AFTER_COMPARISON, *AFTER_TEACHER},
            '"radius": 9.0',
        ),
        ("aggregate_targets.voxel_size", 0.3, AFTER_AGGREGATION, "aggregate_targets.voxel_size=0.3"),
        ("aggregate_targets.far", None, AFTER_AGGREGATION, "aggregate_targets.far=null"),
        ("datasets.demo.aggregate_targets", {"distance": 30.0}, AFTER_AGGREGATION, "aggregate_targets.distance=30.0"),
        ("datasets.semkitti.aggregate_targets", {"distance": 30.0}, set(), ""),
        ("carry_labels.voxel_size", 0.3, set(), ""),
        ("pretrain_sam.steps", 7, set(), ""),
        ("evaluate_miou.votes", 5, set(), ""),
        ("datasets.semkitti_1.labelled", 0.5, set(), ""),
        ("students.fskd_demo.network.embedding", 32, set(), ""),
        ("pretrainings.udakd_demo.contrast.temperature", 0.1, set(), ""),
        (
            "datasets.demo.labelled",
            0.5,
            {"select_labels", "keep_labels", "label_images", "plot_labels", "tune_teacher", *AFTER_TEACHER},
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
def test_change_of_one_key(finished, dry_run, config, path, value, expected, reason):
    change(finished, config, path, value)
    jobs = dry_run(finished)
    assert rules(jobs) == expected, jobs
    assert not expected or any(reason in job.reason for job in jobs)


@pytest.mark.parametrize(
    ("experiment", "path", "value", "expected"),
    [
        ("udakd", "pretrainings.udakd_demo.contrast.temperature", 0.1, {"pretrain_student", *AFTER_FSKD}),
        ("udakd", "students.minkunet_demo.train_student.backbone_learning_rate", 0.0, AFTER_FSKD),
        ("udakd", "datasets.demo_10.labelled", 0.2, {"select_labels", "keep_labels", *AFTER_FSKD}),
        ("udakd", "segment_images.segments", 99, set()),
        ("fskd", "students.fskd_demo.losses.features", 0.5, AFTER_FSKD),
        ("fskd", "image_sets.worlds.held_out", 0.2, {"tune_image_teacher", "cache_teacher", *AFTER_FSKD}),
        (
            "fskd",
            "image_sets.worlds.simulate_images.worlds",
            7,
            {"simulate_images", "tune_image_teacher", "cache_teacher", *AFTER_FSKD},
        ),
        ("fskd", "plot_embedding.points", 200, {"plot_embedding"}),
    ],
)
def test_change_of_one_key_without_labels(finished, dry_run, config, targets, experiment, path, value, expected):
    """UDAKD and FSKD need few labels or none. A key that only one of them reads does not rerun the other."""
    change(finished, config, path, value)
    jobs = dry_run(finished, *targets[experiment])
    assert rules(jobs) == expected - (set() if experiment == "fskd" else {"plot_embedding"}), jobs
    other = "udakd" if experiment == "fskd" else "fskd"
    assert dry_run(finished, *targets[other]) == []


def test_reordered_keys_other_spellings_and_touched_files_rerun_nothing(finished, dry_run, config):
    def backwards(node):
        return {k: backwards(node[k]) for k in reversed(list(node))} if isinstance(node, dict) else node

    text = yaml.safe_dump(backwards(config), sort_keys=False).replace("weight_decay: 0.05", "weight_decay: 5.0e-2")
    (finished / "config.yaml").write_text(text)
    for file in [*finished.glob("elite_pipeline/**/*.py"), *finished.glob("workflow/**/*.smk"), finished / "Snakefile"]:
        file.touch()
    assert dry_run(finished) == []


def test_an_added_sequence_makes_only_its_own_stores(finished, dry_run, config):
    config["datasets"]["demo"]["train"].append("06")
    (finished / "config.yaml").write_text(yaml.safe_dump(config))
    jobs = dry_run(finished, "cache/demo/projection/06.zarr", "cache/demo/projection/00.zarr")
    assert [job.rule for job in jobs].count("project_points") == 1
    assert {"simulate_drive", "tune_teacher", "train_student"} <= rules(dry_run(finished))


def test_adding_and_removing_unrelated_entries_reruns_nothing(finished, dry_run, config):
    del config["experiments"]["sample"], config["datasets"]["sample"], config["teachers"]["sam_tiny_sample"]
    config["datasets"]["semkitti"]["cameras"]["image_3"] = "P3"
    # Remove all students that have keys which the demo's student lacks.
    networks = {name: student.get("network", {}) for name, student in config["students"].items()}
    minkunets = {name for name, network in networks.items() if network.get("kind") == "minkunet"}
    minkunets |= {name for name, student in config["students"].items() if student.get("of") in minkunets}
    config["pretrainings"] = {}  # all are of such students
    config["experiments"] = {n: e for n, e in config["experiments"].items() if e["student"] not in minkunets}
    config["students"] = {n: s for n, s in config["students"].items() if n not in minkunets}
    (finished / "config/comparisons.yaml").rename(finished / "elsewhere.yaml")
    (finished / "config.yaml").write_text(yaml.safe_dump(config))
    found = dry_run(finished)
    (finished / "elsewhere.yaml").rename(finished / "config/comparisons.yaml")
    assert found == []


def test_a_real_recording_is_tracked_by_its_parts(finished, dry_run, snakemake):
    """New labels rerun the index. A folder that another program writes beside them does not."""
    for sequence in ("00", "08"):
        for part in ("velodyne", "labels", "image_2", "image_0"):
            (finished / f"data/sample/sequences/{sequence}/{part}").mkdir(parents=True)
    target = "cache/sample/projection/00.zarr"
    assert "100%" in snakemake(finished, target)
    (finished / "data/sample/sequences/00/predictions").mkdir()
    assert dry_run(finished, target) == []
    (finished / "data/sample/sequences/00/labels/000009.label").touch()
    reasons = {job.rule: job.reason for job in dry_run(finished, target)}
    assert "Updated input files: data/sample/sequences/00/labels" in reasons["index_frames"]


def test_an_edited_stage_reruns_and_a_reverted_one_does_not(finished, dry_run):
    source = finished / "elite_pipeline/stages/measure_latency.py"
    text = source.read_text()
    source.write_text(text + "\n# edited\n")
    assert rules(dry_run(finished)) == AFTER_LATENCY
    source.write_text(text)
    assert dry_run(finished) == []
