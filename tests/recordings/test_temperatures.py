"""The file of temperatures is read, or refused with its name. A sequence divides its soft labels by them."""

import json

import numpy as np
import pytest
import torch

from elite_pipeline import store
from elite_pipeline.errors import InputError
from elite_pipeline.recordings.sequence import open_recorded
from elite_pipeline.recordings.temperatures import Temperatures, read
from elite_pipeline.soft_labels import NEVER, STEP, decode, encode, named, predicted_class, tempered


def write(path, **kinds):
    path.write_text(json.dumps({name: None if t is None else {"temperature": t} for name, t in kinds.items()}))
    return path


def test_temperatures_of_both_kinds(tmp_path):
    assert read(write(tmp_path / "c.json", targets=1.5, aggregated=0.8)) == Temperatures(1.5, 0.8)
    assert read(write(tmp_path / "c.json", targets=1.5, aggregated=None)) == Temperatures(1.5, None)


@pytest.mark.parametrize(
    "text",
    [
        "",
        '{"targets": {"temp',
        "[]",
        "3",
        "{}",
        '{"targets": {"temperature": 1.0}}',
        '{"targets": {"temperature": "warm"}, "aggregated": null}',
        '{"targets": {"temperature": null}, "aggregated": null}',
        '{"targets": {"temperature": NaN}, "aggregated": null}',
        '{"targets": {"temperature": 0.0}, "aggregated": null}',
        '{"targets": {"temperature": -1.0}, "aggregated": null}',
        '{"targets": {"temperature": 1.0}, "aggregated": {"temperature": Infinity}}',
        '{"targets": null, "aggregated": null}',
    ],
)
def test_damaged_files_are_refused(tmp_path, text):
    path = tmp_path / "calibration.json"
    path.write_text(text)
    with pytest.raises(InputError, match=r"calibration\.json.*Delete it and run snakemake again"):
        read(path)


def test_a_missing_file_and_one_that_is_no_text_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"none\.json"):
        read(tmp_path / "none.json")
    (tmp_path / "noise.json").write_bytes(bytes(range(256)))
    with pytest.raises(InputError, match=r"noise\.json"):
        read(tmp_path / "noise.json")


@pytest.mark.parametrize("temperature", [0.1, 0.5, 1.0, 1.7, 10.0])
def test_codes_are_divided_as_logits_are(temperature):
    """Up to one more rounding of a code, and to the largest difference that a code can state."""
    logits = 3 * torch.randn(500, 4, 20, generator=torch.Generator().manual_seed(0))
    logits[::7, :, 5:] = -1e4  # excluded classes
    codes = encode(logits)
    found = tempered(codes, temperature)
    assert (found.dtype, found.shape) == (torch.uint8, codes.shape)
    likely, exact = decode(found, 20), (decode(codes, 20)[..., 1:] / temperature).log_softmax(-1)
    seen = exact > -12
    assert ((likely[..., 1:] - exact)[seen].abs() <= STEP).all()
    assert (likely[..., 1:][~seen] < -11).all()
    assert (likely[..., 0] == NEVER).all(), "no temperature makes a class of 0"
    clear = (codes[..., named(20)] > temperature).flatten()  # else the second class may become as likely as the first
    first, still = (predicted_class(of.flatten(0, 1)[clear]) for of in (decode(codes, 20), likely))
    assert torch.equal(first, still)
    assert temperature != 1 or torch.equal(found, codes)


@pytest.fixture
def places(drive, tmp_path, classes, write_index):
    """Stores of one sequence with random soft labels: {"frames", "projection", "targets", "aggregated"} -> path."""
    paths = {name: tmp_path / f"00.{name}" for name in ("frames", "projection", "targets", "aggregated")}
    frames = ["000000", "000001", "000002"]
    write_index(
        paths["frames"], [{"frame": f, "points": 500, "labelled": True, "class_points": [0] * 20} for f in frames]
    )
    about = {"sequence": "00", "frames": frames, "provenance": {}}
    with store.create(paths["projection"], "projection", cameras=["a"], image_sizes={}, **about) as out:
        out.rows("point", (), np.uint32).append(np.tile(np.arange(40), 3))
        out.rows("visible", (), np.bool_).append(np.arange(120) % 4 > 0)
        out.array("offsets", 40 * np.arange(4))
    codes = encode(3 * torch.randn(120, 4, 20, generator=torch.Generator().manual_seed(1))).numpy()
    with store.create(paths["targets"], "targets", classes=classes.to_json(), **about) as out:
        out.rows("soft_label", (4, 8), np.uint8).append(codes)
    with store.create(paths["aggregated"], "aggregated", classes=classes.to_json(), **about) as out:
        out.rows("point", (), np.uint32).append(np.tile(np.arange(40), 3))
        out.rows("soft_label", (8,), np.uint8).append(codes[:, 0])
        for name in ("views", "own"):
            out.rows(name, (), np.uint8).append(np.ones(120))
        out.array("offsets", 40 * np.arange(4))
    return drive.parents[1], {name: [path] for name, path in paths.items()}


def test_a_sequence_divides_both_kinds(places, tmp_path):
    data, stores = places
    calibration = write(tmp_path / "calibration.json", targets=2.0, aggregated=0.5)
    plain, divided = open_recorded(data, **stores)[0], open_recorded(data, **stores, calibration=calibration)[0]
    for f in range(3):
        before, after = plain.answers(f), divided.answers(f)
        assert torch.equal(after.taught, before.taught)
        exact = (before.teacher[..., 1:] / 2).log_softmax(-1)
        torch.testing.assert_close(after.teacher[..., 1:], exact, atol=STEP, rtol=0)
        before, after = plain.reached(f), divided.reached(f)
        assert torch.equal(after.point, before.point)
        assert torch.equal(after.soft_label, tempered(before.soft_label, 0.5))
        assert not torch.equal(after.soft_label, before.soft_label)
    assert calibration in divided.files, "a run with other temperatures is another run"
    assert calibration not in plain.files


def test_aggregated_soft_labels_need_their_temperature(places, tmp_path):
    data, stores = places
    calibration = write(tmp_path / "calibration.json", targets=2.0, aggregated=None)
    with pytest.raises(InputError, match=r"calibration\.json has no temperature of aggregated"):
        open_recorded(data, **stores, calibration=calibration)
    assert open_recorded(data, **stores | {"aggregated": ()}, calibration=calibration)[0].temperatures.targets == 2
