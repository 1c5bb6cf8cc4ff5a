import numpy as np
import pytest

from elite_pipeline.simulation.appearance import APPEARANCES
from elite_pipeline.simulation.materials import ID, MATERIALS, REMISSION, textured
from elite_pipeline.simulation.patterns import courses, lattice, noise, stones


def test_noise_is_uniform_and_fades_to_its_mean():
    uv = np.random.default_rng(0).uniform(-500, 500, (20000, 2))
    sharp = noise(uv, 1.0, np.zeros(len(uv)))
    assert abs(sharp.mean() - 0.5) < 0.02
    assert sharp.std() > 0.25
    assert noise(uv, 1.0, np.full(len(uv), 50.0)).std() < 0.01


def test_joints_cover_the_expected_share_of_courses():
    uv = np.random.default_rng(0).uniform(0, 50, (50000, 2))
    joint, own = courses(uv, (0.25, 0.09), 0.012, np.full(len(uv), 1e-4))
    assert abs(joint.mean() - (1 - (1 - 0.012 / 0.25) * (1 - 0.012 / 0.09))) < 0.02
    assert own.std() > 0.2


def test_lattice_is_smooth_and_fades_to_its_mean():
    uv = np.random.default_rng(0).uniform(-500, 500, (20000, 2)).astype(np.float32)
    fine, coarse = lattice(uv, 1.0, np.zeros(len(uv))), lattice(uv, 1.0, np.full(len(uv), 50.0))
    assert abs(fine.mean() - 0.5) < 0.02
    assert fine.min() >= 0
    assert fine.max() <= 1
    assert fine.std() > 0.1
    assert coarse.std() < 0.01
    assert np.abs(fine - lattice(uv + 0.01, 1.0, np.zeros(len(uv)))).max() < 0.1


def test_stones_have_thin_joints_and_values_of_their_own():
    uv = np.random.default_rng(0).uniform(0, 50, (50000, 2)).astype(np.float32)
    joint, own = stones(uv, 0.4, 0.03, np.full(len(uv), 1e-4))
    assert 0.03 < joint.mean() < 0.3
    assert own.std() > 0.2
    inside = joint == 0
    assert np.abs(own - stones(uv + 1e-4, 0.4, 0.03, np.full(len(uv), 1e-4))[1])[inside].max() == 0


@pytest.mark.parametrize("appearance", APPEARANCES.values(), ids=APPEARANCES)
def test_every_material_has_a_colour_in_range(appearance):
    rng = np.random.default_rng(1)
    for name, index in ID.items():
        if name == "sky":
            continue
        n = 500
        albedo, gloss = textured(
            np.full(n, index, np.uint8),
            rng.uniform(-20, 20, (n, 2)).astype(np.float32),
            rng.uniform(0.001, 0.5, n).astype(np.float32),
            np.full((n, 3), 0.5, np.float32),
            np.full((n, 4), (3.0, 3.0, 1.2, 1.5), np.float32),
            appearance.textures,
        )
        assert np.isfinite(albedo).all(), name
        assert albedo.min() >= 0, name
        assert albedo.max() < 1.9, name
        assert (gloss >= 0).all(), name
        assert (gloss <= 1).all(), name


def test_remissions_of_ground_materials_overlap():
    paved = REMISSION[[ID[name] for name in ("asphalt", "pavers", "slabs", "cobbles", "gravel", "grass")]]
    # Remission varies within one material by more than a factor of 1.5.
    assert paved.max() / paved.min() < 1.6
    assert len(MATERIALS) < 256
