"""summarise_experiment: the page that `make demo` prints, and the times of its stages."""

import json

import pytest

from elite_pipeline.stages.summarise_experiment import main


@pytest.mark.parametrize(("hz", "verdict"), [(140.0, "meets"), (3.0, "misses")])
def test_page(latency_result, tmp_path, hz, verdict):
    (tmp_path / "x_miou.md").write_text("| class | IoU |\n")
    (tmp_path / "x_latency.json").write_text(json.dumps({**latency_result, "hz": hz}))
    results = ["--miou", str(tmp_path / "x_miou.md"), "--latency", str(tmp_path / "x_latency.json")]
    main(
        [*results, "--figures", "results/a.png", "results/b.png", "--out", str(tmp_path / "x.md"), 'labeller="nearest"']
    )
    page = (tmp_path / "x.md").read_text()
    assert "| class | IoU |" in page
    assert f"{hz:.1f} Hz, which {verdict} the budget of 24 Hz" in page
    assert "labeller 'nearest'" in page
    assert "results/a.png\n    results/b.png" in page
    main([*results, "--figures", "results/a.png", "--out", str(tmp_path / "x.md"), "labeller=null"])
    page = (tmp_path / "x.md").read_text()
    assert "pseudo-labels" not in page, "a teacher that needs no pseudo-labels"
    assert "teacher" not in page
    groups = {"all": (9, 0.75, 0.4), "labelled": (2, 0.9, 0.6), "unlabelled": (7, 0.5, 0.25)}
    points = {key: {"scans": n, "mean": {"accuracy": a, "miou": m}} for key, (n, a, m) in groups.items()}
    reach = {"coverage": 0.125}, {"coverage": 0.6, "accuracy": 0.9, "miou": 0.5}
    aggregated = {"targets": {"all": reach[0]}, "aggregated": {"all": reach[1]}}
    for known, said in ((points, 2), (points | {"unlabelled": None}, 1), (points | aggregated, 3)):
        (tmp_path / "points.json").write_text(json.dumps(known))
        about = ["--points", str(tmp_path / "points.json"), "--figures", "a.png", "--out", str(tmp_path / "x.md")]
        main([*results, *about, "labeller=null"])
        page = (tmp_path / "x.md").read_text()
        assert page.count("teacher: ") == said
        assert "teacher: 75.0 % accuracy and 40.0 % mIoU at the visible labelled points of 9 training scans" in page
        unseen = (
            "50.0 % accuracy and 25.0 % mIoU at the visible labelled points of 7 training scans with labels hidden from"
        )
        assert (f"teacher: {unseen}" in page) == (said > 1)
        aggregation = "reach 60.0 % of all points, not 12.5 %: 90.0 % accuracy and 50.0 % mIoU"
        assert (aggregation in page) == (said == 3)
