"""Tables of docs/ agree with what they are about: the stages, the choices, and the results that were measured."""

import json
import re
from pathlib import Path
from runpy import run_path
from types import UnionType
from typing import Union, get_args, get_origin

import numpy as np
import pytest
from pydantic import BaseModel

from elite_pipeline.choices import ENCODERS, STAGES, STUDENTS
from elite_pipeline.config import Config

ROOT = Path(__file__).parents[2]
RESULTS = (ROOT / "docs/results.md").read_text()
interval = run_path(str(ROOT / "benchmarks/intervals.py"))["interval"]


def rows(page, heading):
    """Cells of the rows of every table on a page of docs/ whose first heading is `heading`."""
    found, inside = [], False
    for line in (ROOT / "docs" / page).read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")] if line.startswith("|") else []
        inside = bool(cells) and (inside or cells[0] == heading)
        if inside and cells[0] != heading and not set(line) <= set("|-:"):
            found.append(cells)
    return found


def codes(cell):
    """What stands in backticks."""
    return re.findall(r"`([^`]+)`", cell)


def has_key(model, path):
    """Whether the configuration has a key such as datasets.<dataset>.labelled."""
    for part in path.split("."):
        if get_origin(model) is dict:
            model = get_args(model)[1]
            if part.startswith("<"):
                continue
        kinds = get_args(model) if get_origin(model) in (Union, UnionType) else (model,)
        fields = {}
        for kind in kinds:
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                fields |= kind.model_fields
        if part not in fields:
            return False
        model = fields[part].annotation
    return True


def test_stages_are_those_of_the_workflow():
    listed = [codes(cells[0])[0] for cells in rows("stages.md", "stage")]
    modules = [path.stem for path in (ROOT / "elite_pipeline/stages").glob("[!_]*.py")]
    assert sorted(listed) == sorted(modules)


@pytest.mark.parametrize("cells", rows("stages.md", "stage"), ids=lambda cells: cells[0])
def test_stage_has_its_code_settings_and_outputs(cells):
    stage, code, settings, output = cells
    missing = [path for path in codes(code) if not (ROOT / "elite_pipeline" / path).exists()]
    assert not missing
    assert [path for path in codes(settings) if not has_key(Config, path)] == []
    rules = "".join(path.read_text() for path in (ROOT / "workflow/rules").glob("*.smk"))
    rule = re.search(rf"^rule {codes(stage)[0]}:\n(?:(?: .*)?\n)+", rules, re.MULTILINE)
    assert rule
    for path in codes(output) if "/" in output else ():
        pattern = path.rstrip("/").replace("<", "{").replace(">", "}")
        with_or_without = re.sub("_miou(_test)?(_tta)?", "_miou{test}{tta}", pattern)
        places = (pattern, with_or_without, f"{pattern}/student.safetensors")
        assert any(f'"{place}"' in rule[0] for place in places), path


def test_encoders_and_students_are_those_of_the_choices():
    listed = {codes(cells[0])[0]: (cells[2], cells[3]) for cells in rows("methods.md", "`encoder`")}
    said = {True: "yes", False: "no"}
    assert listed == {name: (said[e.promptable], said[e.adaptable]) for name, e in ENCODERS.items()}
    assert {codes(cells[0])[0] for cells in rows("methods.md", "`network.kind`")} == set(STUDENTS)
    assert STAGES == 4, "methods.md says four, in words"


def comparison(name):
    """The JSON of a comparison that was measured."""
    return json.loads((ROOT / f"benchmarks/results/{name}_comparison.json").read_text())


def percent(experiment):
    """Mean and standard deviation of its seeds, as the tables have them."""
    seeds = 100 * np.array(experiment["miou"])
    return f"{seeds.mean():.1f} ± {seeds.std(ddof=1):.1f}"


def gain(difference):
    """Mean and half of the interval, as the tables have them."""
    mean, half = interval(100 * np.array(difference["seeds"]))
    return f"{mean:+.1f} ± {half:.1f}"


def knows(teacher):
    """mIoU and accuracy of a teacher, as the tables have them."""
    return f"{100 * teacher['miou']:.1f}, {100 * teacher['accuracy']:.1f}"


def test_label_fractions_are_as_measured():
    result, found = comparison("label_fractions"), []
    for name, difference in result["differences"].items():
        with_teacher, alone = (result["experiments"][part] for part in name.split(" - "))
        seeds = ", ".join(f"{100 * seed:+.1f}" for seed in difference["seeds"])
        known = with_teacher["teacher_points"]
        found.append(
            [str(alone["labelled_scans"]), percent(alone), percent(with_teacher), seeds, gain(difference), knows(known)]
        )
    table = [
        [*cells[:5], cells[5].removesuffix(" (see below)")] for cells in rows("results.md", "labelled scans of 40")
    ]
    assert table == found


SCORES = ("accuracy", "miou_frequent")
"""Scores of an arm beside mIoU. Comparisons of older versions have none."""


def limits(interval):
    """Both ends of an interval, as the tables have them."""
    return "{:+.1f} to {:+.1f}".format(*(100 * end for end in interval))


def test_reach_is_as_measured():
    result = comparison("reach")
    arms = [
        [e["setting"], e["arm"], *(percent({"miou": e[score]}) for score in ("miou", *SCORES))]
        for e in result["experiments"].values()
    ]
    assert rows("results.md", "labelled") == arms
    found = []
    for name, d in result["differences"].items():
        seeds, accuracy = ", ".join(f"{100 * seed:+.1f}" for seed in d["seeds"]), d["accuracy"]
        miou = [seeds, f"{100 * d['mean']:+.1f}", limits(d["over_seeds"]), limits(d["over_places"])]
        right = [f"{100 * accuracy['mean']:+.1f}", limits(accuracy["over_seeds"]), limits(accuracy["over_places"])]
        found.append([name, *miou, *right])
    assert rows("results.md", "difference") == found


def test_ablation_is_as_measured():
    result = comparison("ablation")["experiments"]
    alone = np.mean(result["labels alone"]["miou"])
    named = ["frozen SAM, sparse", "LoRA, sparse", "AdaLoRA, sparse", "LoRA, nearest", "LoRA, SAM-PLG"]
    named += ["frozen SAM, regions", "LoRA, regions", "AdaLoRA, regions", "single stage", "features"]
    arms = [result[name] for name in named]
    found = [[knows(a["teacher_points"]), percent(a), f"{100 * (np.mean(a['miou']) - alone):+.1f}"] for a in arms]
    assert [cells[2:] for cells in rows("results.md", "labels of the images")] == found


def test_oracles_are_as_measured():
    result = comparison("oracles")
    found = []
    for name, difference in result["differences"].items():
        teacher = name.split(" - ")[0]
        known = result["experiments"][teacher]["teacher_points"]
        of_teacher = [f"{100 * known[key]:.1f}" for key in ("accuracy", "miou")]
        found.append([teacher, *of_teacher, f"{100 * difference['mean']:+.1f}"])
    assert rows("results.md", "teacher") == found


def test_transfer_is_as_measured():
    result = comparison("transfer")["experiments"]
    settings = ("1 scan", "5 %", "10 %", "linear probing")
    arms = ("random", "UDAKD", "points alone", "superpixels alone")
    found = [[percent(result[f"{arm}, {setting}"]) for setting in settings] for arm in arms]
    assert [cells[1:] for cells in rows("results.md", "backbone")] == found


def test_zero_shot_is_as_measured():
    result = comparison("zero_shot")
    arms, differences = result["experiments"].values(), result["differences"].values()
    found = list(zip(map(percent, arms), ["", *map(gain, differences)], strict=True))
    assert [(cells[1], cells[2]) for cells in rows("results.md", "FSKD")] == found


def test_labellers_are_as_measured():
    result, density = (
        json.loads((ROOT / "benchmarks/results/demo_pseudo_labels.json").read_text()),
        {"100": "1", "5": "0.05"},
    )
    table = [cells for cells in rows("results.md", "points") if len(cells) == 7]
    assert len(table) == 6, "without the table of a real SAM's masks"
    for points, labeller, *cells in table:
        measured = result["by_density"][density[points.split()[0]]]["labellers"][codes(labeller)[0]]
        found = [f"{100 * measured[key]:.1f}" for key in ("coverage", "accuracy", "miou")]
        found += [f"{measured['decoder_calls_per_frame']:.0f}", f"{measured['seconds_per_frame']:.2f}"]
        assert cells == found


def test_aggregation_is_as_measured():
    def percent(*values):
        return ["-" if value is None else f"{100 * value:.1f}" for value in values]

    result = json.loads((ROOT / "benchmarks/results/demo_sam_tiny_points.json").read_text())
    kinds = {"targets": "one frame", "aggregated": "aggregated"}
    expected = [
        [name, *percent(*(group[key] for key in ("coverage", "accuracy", "miou")))]
        for kind, name in kinds.items()
        for group in result[kind].values()
    ]
    found = rows("results.md", "soft labels")
    assert [[cells[0], *cells[2:]] for cells in found] == expected
    settings = json.loads((ROOT / "benchmarks/results/aggregation_settings.json").read_text())["rows"]
    expected = [
        [
            name,
            *percent(*(group["all"][key] for key in ("coverage", "accuracy", "miou"))),
            *percent(group["own"]["miou"], group["unseen"]["miou"], group["moving"]["accuracy"]),
        ]
        for name, group in settings.items()
    ]
    assert rows("results.md", "changed setting") == expected
    (time,) = re.findall(r"takes \*\*(\d+) ms\*\*", RESULTS)
    measured = json.loads((ROOT / "benchmarks/results/aggregation.json").read_text())
    assert int(time) == round(measured["milliseconds_per_120000_points"])


def test_nuscenes_is_as_measured():
    found = rows("results.md", "nuScenes")
    assert len(found) == 3
    for cells in found:
        (target,) = codes(cells[5])
        result = json.loads((ROOT / "benchmarks" / target).read_text())
        expected = [f"{100 * result[key]:.1f}" for key in ("miou", "miou_known", "accuracy")]
        assert cells[2:5] == expected, target


def test_views_are_as_measured():
    result = json.loads((ROOT / "benchmarks/results/views.json").read_text())
    found = []
    for name, means in result["views"].items():
        mean, logarithms = means["probabilities"], means["logarithms"]
        scores = [f"{100 * mean[key]:.1f}" for key in ("miou", "accuracy")]
        found.append([name, *scores, f"{mean['loss']:.3f}", f"{logarithms['loss']:.3f}"])
    assert rows("results.md", "mean over") == found
    assert f"{result['points']:,} visible" in RESULTS


def test_intervals_in_the_text_are_as_measured():
    """Every `mean ± half` on the page and in the README is a paired interval, or a mean of seeds, of a comparison."""
    known = set()
    for name in ("label_fractions", "ablation", "transfer", "zero_shot", "reach"):
        result = comparison(name)
        arms = [e[score] for e in result["experiments"].values() for score in (*SCORES, "miou") if score in e]
        known |= {percent({"miou": seeds}) for seeds in arms}
        known |= {gain(difference).lstrip("+-") for difference in result["differences"].values()}
    text = RESULTS + (ROOT / "README.md").read_text()
    said = re.findall(r"\d+\.\d ± \d+\.\d", text)
    assert len(said) > 50
    assert set(said) <= known
