"""The two appearances: the same world for the LiDAR and for the labels, another one for the camera."""

import numpy as np
import pytest

from elite_pipeline.config import SimulateDrive
from elite_pipeline.simulation.drive import AHEAD, Instant, drive_world, rig
from elite_pipeline.simulation.scene import Scene
from elite_pipeline.simulation.views import random_views

SETTINGS = SimulateDrive(
    seed=17, frames=4, spacing=3.0, beams=16, columns=256, image_width=256, image_height=80, world="city"
)


def recorded(appearance, sequence="40", time=0.5):
    settings = SETTINGS.model_copy(update={"appearance": appearance})
    world, rng = drive_world(sequence, settings)
    frame = Instant(Scene(world), rig(settings), AHEAD, time, np.array([time]))
    picture = frame.photographs(rng)["image_2"]
    return picture, frame.turn(settings, rng)


@pytest.fixture(scope="module")
def both():
    return {appearance: recorded(appearance) for appearance in ("first", "second")}


def test_appearances_share_geometry_labels_and_scans(both):
    (first, scanned), (second, scanned_again) = both["first"], both["second"]
    for name in ("depth", "normal", "semantic", "instance", "material", "part"):
        assert np.array_equal(getattr(first, name), getattr(second, name)), name
    for name in ("points", "semantic", "instance", "surface"):
        assert np.array_equal(getattr(scanned, name), getattr(scanned_again, name)), name


def test_appearances_differ_in_the_image(both):
    first, second = (both[name][0].rgb.astype(float) for name in ("first", "second"))
    assert np.abs(first - second).mean() > 15
    road = both["first"][0].semantic == 40
    alike = np.corrcoef(first[road].mean(1), second[road].mean(1))[0, 1]
    assert alike < 0.9  # the pattern of the road differs too, not only its brightness
    assert first[road].std() > 2
    assert second[road].std() > 2


def test_second_appearance_is_warmer():
    def warmth(appearance, sequence):
        red, _, blue = recorded(appearance, sequence)[0].rgb.reshape(-1, 3).mean(0)
        return red - blue

    places = ["40", "41", "43", "45"]
    first, second = (np.mean([warmth(appearance, place) for place in places]) for appearance in ("first", "second"))
    assert second > first + 4


def test_views_of_the_second_appearance_show_the_same_places():
    first, second = (list(random_views(5, 2, 128, 48, appearance=appearance)) for appearance in ("first", "second"))
    for a, b in zip(first, second, strict=True):
        for name in ("material", "normal", "depth", "region", "height", "extent", "semantic"):
            assert np.array_equal(getattr(a, name), getattr(b, name)), name
        assert np.abs(a.rgb.astype(float) - b.rgb).mean() > 10


def test_second_views_are_well_exposed():
    brightness = [v.rgb.mean() for seed in range(6) for v in random_views(seed, 1, 128, 48, appearance="second")]
    assert min(brightness) > 35
    assert max(brightness) < 225
