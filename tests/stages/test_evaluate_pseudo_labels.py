"""evaluate_pseudo_labels: the documented keys at every density, with and without dense truth."""

import json

import numpy as np
import pytest
from PIL import Image

from elite_pipeline.errors import InputError
from elite_pipeline.labellers.benchmark import read_gallery
from elite_pipeline.recordings import index
from elite_pipeline.stages.evaluate_pseudo_labels import main

REGIONS = ["regions=4", "inside=2", "outside=2", "purity=0.0", "detour=2.0", "radius=6.0"]
PAPER = ["predicted_iou=0", "stability=0", "stability_offset=1", "box_nms=0.7", "prompts_per_batch=64"]


@pytest.fixture
def evaluate(recorded, random_sam, tmp_path):
    """Return a function of settings (`key=json`, except those of `without`) that returns the result of the stage."""

    def run(*settings, without=None):
        words = ["--data", str(recorded["data"]), "--frames", str(recorded["frames"])]
        words += ["--projection", str(recorded["projection"]), "--dataset", "toy"]
        words += ["--gallery", str(tmp_path / "worst.npz"), "--out", str(tmp_path / "results/toy_pseudo_labels.json")]
        given = [f"sam.{item}" for item in [*random_sam, "longest_side=64"]]
        given += [f"paper.{item}" for item in PAPER] + [f"regions.{item}" for item in REGIONS]
        given += ["frames=12", "held_out=0.3", "seed=0", *settings]
        main([*words, *(item for item in given if not without or not item.startswith(without))])
        text = (tmp_path / "results/toy_pseudo_labels.json").read_text()
        return json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))

    return run


@pytest.fixture
def truth(recorded):
    """Write dense truth for both views with labels and an image: road, with one unlabelled row."""
    for frame, camera, size in (("000000", "image_2", (40, 80)), ("000001", "image_0", (30, 64))):
        folder = recorded["data"] / "sequences/00/truth" / camera / "semantic"
        folder.mkdir(parents=True)
        labels = np.full(size, 40, np.uint16)
        labels[0] = 0
        Image.fromarray(labels).save(folder / f"{frame}.png")


def test_result_against_dense_truth(evaluate, truth, tmp_path, classes):
    result = evaluate()
    assert {"encoder", "weights_crc32", "config", "versions", "commit", "device", "threads", "seconds"} <= set(result)
    about = [result[key] for key in ("dataset", "split", "sequences", "reference", "held_out", "frames")]
    assert about == ["toy", "train", ["00"], "dense truth", None, 2]
    assert list(result["by_density"]) == ["1", "0.2", "0.05", "0.01"]
    assert result["labellers"] == result["by_density"]["1"]["labellers"]
    for found in result["by_density"].values():
        labellers = found["labellers"]
        assert list(labellers) == ["paper", "default", "nearest"]
        for values in labellers.values():
            assert values["frames"] == 2
            assert 0 <= values["coverage"] <= 1
            assert values["seconds_per_frame"] > 0
            assert all(values[key] is None or 0 <= values[key] <= 1 for key in ("accuracy", "miou", "miou_of_all"))
            assert sum(b["share"] for b in values["reliability"]) == pytest.approx(1 if values["coverage"] else 0)
        assert labellers["nearest"]["coverage"] == labellers["default"]["coverage"]
        assert labellers["paper"]["prompts_per_frame"] == labellers["paper"]["decoder_calls_per_frame"]
        assert labellers["default"]["decoder_calls_per_frame"] <= 4
        assert labellers["nearest"]["prompts_per_frame"] == 0
        assert [frame["view"] for frame in found["per_frame"]] == ["00/000000 image_2", "00/000001 image_0"]
        # In frame 1 all points and the truth are road.
        assert found["per_frame"][1]["nearest"] == 1
    prompts = [found["labellers"]["paper"]["prompts_per_frame"] for found in result["by_density"].values()]
    assert prompts == sorted(prompts, reverse=True)
    assert prompts[0] > prompts[2]
    table = (tmp_path / "results/toy_pseudo_labels.md").read_text()
    assert table.count("\n| 5% |") == 4  # three labellers, one line of wins
    assert "against dense truth" in table
    rows, carried = read_gallery(tmp_path / "worst.npz")
    assert 1 <= len(rows) <= 4
    assert carried == classes
    assert result["classes"] == classes.evaluated


def test_without_dense_truth_held_out_points_are_scored(evaluate, tmp_path):
    result = evaluate()
    assert (result["reference"], result["held_out"]) == ("held-out points", 0.3)
    assert result["labellers"]["default"]["labelled_outside"] is None
    everywhere = evaluate("held_out=0.6")["labellers"]["nearest"]
    assert everywhere["accuracy"] != result["labellers"]["nearest"]["accuracy"]
    assert "against held-out points (60% of the points)" in (tmp_path / "results/toy_pseudo_labels.md").read_text()
    assert not any(row["dense"] for row in read_gallery(tmp_path / "worst.npz")[0])


def test_points_are_held_out_if_one_image_has_no_dense_truth(evaluate, truth, recorded):
    (recorded["data"] / "sequences/00/truth/image_0/semantic/000001.png").unlink()
    assert evaluate()["reference"] == "held-out points"


def test_results_are_equal_except_for_the_times(evaluate):
    def timeless(result):
        return [
            {key: value for key, value in values.items() if key != "seconds_per_frame"}
            for found in result["by_density"].values()
            for values in found["labellers"].values()
        ]

    assert timeless(evaluate()) == timeless(evaluate())


def test_fewer_frames_are_spread_over_all_frames(evaluate):
    found = evaluate("frames=1")
    assert found["frames"] == 1
    assert [frame["view"] for frame in found["by_density"]["1"]["per_frame"]] == ["00/000000 image_2"]


@pytest.mark.parametrize("section", ["sam", "paper", "regions"])
def test_a_labeller_without_its_section_is_refused(evaluate, section):
    with pytest.raises(InputError, match=f"{section}: this key is missing"):
        evaluate(without=f"{section}.")


def test_nothing_labelled(evaluate, recorded, write_index):
    rows = index.pq.read_table(recorded["frames"]).to_pylist()
    write_index(recorded["frames"], [{**row, "labelled": False} for row in rows])
    with pytest.raises(InputError, match="both an image and labels"):
        evaluate()
