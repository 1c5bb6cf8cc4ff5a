"""Shares of time of an experiment's stages."""

from pathlib import Path

from elite_pipeline.commands.stage_times import stage_usage, table


def test_shares_count_only_the_jobs_of_the_experiment(tmp_path):
    header = "s\tmax_rss\n"
    for path, row in (("project_points/demo/00.tsv", "2.5\t100"), ("project_points/demo/01.tsv", "1.5\t-"),
                      ("project_points/other/00.tsv", "99\t999"), ("train_student/demo.tsv", "6\t300")):  # fmt: skip
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(header + row + "\n")
    assert stage_usage(tmp_path, {"demo"}) == {"project_points": (2, 4.0, 100.0), "train_student": (1, 6.0, 300.0)}


def test_table_of_a_seed_has_the_stages_of_its_data_set(whole):
    for path in (
        "train_student/semkitti_udakd-seed3.tsv",
        "train_student/semkitti.tsv",
        "index_frames/semkitti_1/00.tsv",
    ):
        file = Path("logs/jobs", path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("s\tmax_rss\n3\t300\n")
    lines = table("semkitti_udakd-seed3").splitlines()
    assert [line.split()[:3] for line in lines[1:3]] == [["index_frames", "1", "3.0"], ["train_student", "1", "3.0"]]
    assert lines[3].startswith("all stages")


def test_no_times_are_no_table(whole):
    assert table("demo") == "logs/jobs holds no times of these stages."
