import numpy as np

from elite_pipeline.simulation.materials import ID, MATERIALS, REMISSION, textured
from elite_pipeline.simulation.patterns import courses, noise


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


def test_every_material_has_a_colour_in_range():
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
        )
        assert np.isfinite(albedo).all(), name
        assert albedo.min() >= 0, name
        assert albedo.max() < 1.6, name
        assert (gloss >= 0).all(), name
        assert (gloss <= 1).all(), name


def test_remissions_of_ground_materials_overlap():
    paved = REMISSION[[ID[name] for name in ("asphalt", "pavers", "slabs", "cobbles", "gravel", "grass")]]
    # Remission varies within one material by more than a factor of 1.5.
    assert paved.max() / paved.min() < 1.6
    assert len(MATERIALS) < 256
