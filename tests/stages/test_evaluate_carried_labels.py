"""evaluate_carried_labels: exact numbers on a drive past parked cars, and what it refuses."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from elite_pipeline.errors import InputError
from elite_pipeline.recordings import index
from elite_pipeline.stages import evaluate_carried_labels


def evaluate(paths, out, **changes):
    paths = {**paths, **changes}
    words = [word for name in ("data", "frames", "selected", "carried") for word in (f"--{name}", str(paths[name]))]
    evaluate_carried_labels.main(["--dataset", "parked", *words, "--out", str(out)])
    return json.loads(out.read_text())


def test_scores_are_of_the_hidden_labels(carried, tmp_path):
    """Ten hidden scans. Each has 900 points of road, 200 of a building, 300 of a car (reached in six scans).

    In frame 1, ten points of the car are a person's, and 20 further vegetation points are not reached.
    """
    found = evaluate(carried, tmp_path / "x_carried_labels.json")
    cars, points = 6 * 300, 10 * 1400 + 20
    covered = 10 * 1100 + cars
    assert found["scans"] == 10
    assert found["labelled_scans"] == 2
    assert found["all"]["points"] == points
    assert found["all"]["coverage"] == pytest.approx(covered / points)
    assert found["all"]["accuracy"] == pytest.approx((covered - 10) / covered)
    assert found["all"]["miou"] == pytest.approx((1 + 1 + (cars - 10) / cars + 0) / 4)
    assert found["things"] == pytest.approx(
        {"points": 3000, "coverage": cars / 3000, "accuracy": (cars - 10) / cars, "miou": (cars - 10) / cars / 2}
    )
    assert found["stuff"] == pytest.approx({"points": 11020, "coverage": 11000 / 11020, "accuracy": 1.0, "miou": 1.0})
    # The person of frame 1 walks: its raw id says so.
    assert found["moving"] == {"points": 10, "coverage": 1.0, "accuracy": 0.0, "miou": 0.0}
    by_class = found["by_class"]
    assert list(by_class) == ["car", "person", "road", "building", "vegetation"]
    assert by_class["person"] == {"points": 10, "coverage": 1.0, "accuracy": 0.0, "iou": 0.0}
    assert by_class["vegetation"] == {"points": 20, "coverage": 0.0, "accuracy": None, "iou": None}
    assert by_class["car"]["points"] == 2990
    shares = {part["from"]: (part["share"], part["accuracy"]) for part in found["by_confidence"]}
    assert shares == {0.0: (0, None), 0.6: (0, None), 0.8: (0, None), 1.0: pytest.approx((1, (covered - 10) / covered))}
    assert found["config"]["carry_labels"]["voxel_size"] == 0.2
    table = (tmp_path / "x_carried_labels.md").read_text()
    assert "# Carried labels of parked: 91.3 % of the points, 99.9 % of them right" in table
    assert "| vegetation | 20 | 0.0 | - | - |" in table
    assert "| 100 % | 100.0 | 99.9 |" in table


def test_confidence_below_one(classes):
    """Of the votes at a place, 3 of 4 are for the label."""
    import torch

    from elite_pipeline.aggregation.reached import Carried
    from elite_pipeline.evaluation.carried_quality import CarriedQuality

    quality = CarriedQuality(classes)
    confidence = torch.tensor([0.5, 191 / 255, 0.8, 254 / 255, 1.0, 1.0])
    point, label = torch.arange(6), torch.full((6,), 9)
    carried = Carried(point, label, confidence, torch.ones(6, dtype=torch.uint8))
    quality.add(np.array([9, 9, 1, 9, 9, 0, 9]), carried, np.zeros(7, bool))
    parts = quality.summary()["by_confidence"]
    assert [(part["share"], part["accuracy"]) for part in parts] == [(0.2, 1), (0.2, 1), (0.4, 0.5), (0.2, 1)]


def test_nothing_carried_is_scored_as_no_coverage(carried, tmp_path):
    """No labelled scan at all: the store is empty, and every scan has hidden labels."""
    from elite_pipeline.stages import carry_labels

    index.with_labels_of(carried["frames"], [], tmp_path / "none.parquet")
    settings = [f"carry_labels.{word}" for word in ("distance=60.0", "frames=60", "voxel_size=0.2")]
    settings += ["carry_labels.things.voxel_size=0.2", "carry_labels.things.frames=2"]
    given = ["--data", str(carried["data"]), "--frames", str(tmp_path / "none.parquet")]
    carry_labels.main([*given, "--out", str(tmp_path / "empty.zarr"), *settings])
    changes = {"selected": tmp_path / "none.parquet", "carried": tmp_path / "empty.zarr"}
    found = evaluate(carried, tmp_path / "x.json", **changes)
    assert found["all"] == {"points": 16820, "coverage": 0.0, "accuracy": None, "miou": None}
    assert found["labelled_scans"] == 0
    assert "# Carried labels of parked: 0.0 % of the points, - % of them right" in (tmp_path / "x.md").read_text()


def test_no_hidden_labels_are_refused(carried, tmp_path):
    with pytest.raises(InputError, match=r"parked: no training scan has hidden labels .* labelled: 0\.1 in a variant"):
        evaluate(carried, tmp_path / "x.json", selected=carried["frames"])
    with pytest.raises(InputError, match=r"no training scan has hidden labels"):
        evaluate(carried, tmp_path / "x.json", frames=carried["selected"])
    assert not (tmp_path / "x.json").exists()


def test_other_frames_are_refused(carried, tmp_path):
    pq.write_table(pq.read_table(carried["frames"]).slice(0, 11), tmp_path / "short.parquet")
    with pytest.raises(InputError, match=r"short\.parquet holds other frames than the sequence"):
        evaluate(carried, tmp_path / "x.json", selected=tmp_path / "short.parquet")
    with pytest.raises(InputError, match=r"carried\.zarr holds other frames than .*short\.parquet"):
        evaluate(carried, tmp_path / "x.json", frames=tmp_path / "short.parquet")
