import numpy as np

from elite_pipeline.simulation import MATERIALS, random_view, random_views


def test_view_is_complete_and_consistent(classes):
    view = random_view(4, 256, 96)
    assert view.rgb.shape == view.normal.shape == (96, 256, 3)
    assert view.rgb.dtype == np.uint8
    assert view.normal.dtype == np.float16
    assert view.depth.dtype == np.float32
    assert view.region.dtype == np.uint16
    assert view.material.dtype == np.uint8
    assert view.semantic.dtype == np.uint16
    sky = view.region == 0
    assert (view.depth[sky] == 0).all()
    assert (view.material[sky] == 0).all()
    assert (view.depth[~sky] > 0).all()
    assert view.material.max() < len(MATERIALS)
    assert set(np.unique(view.semantic)) <= set(classes.training_ids)
    assert len(np.unique(view.region)) == view.region.max() + (sky.any())
    length = np.linalg.norm(view.normal[~sky].astype(np.float32), axis=1)
    np.testing.assert_allclose(length, 1, atol=0.01)
    assert (view.normal[..., 2][~sky] < 0.9).all()  # surfaces face the camera
    assert np.median(view.depth[48:][~sky[48:]]) > 2.0  # the camera is not inside an object


def test_each_region_has_one_class(classes):
    for view in random_views(9, 2, 256, 96):
        for region in range(1, view.region.max() + 1):
            assert len(np.unique(classes.of_raw(view.semantic[view.region == region]))) == 1


def test_views_are_deterministic_and_differ():
    first, second = ([v.rgb for v in random_views(5, 2, 128, 48)] for _ in range(2))
    assert all((a == b).all() for a, b in zip(first, second, strict=True))
    assert (first[0] != first[1]).mean() > 0.3
    assert (first[0] != random_view(6, 128, 48).rgb).mean() > 0.5


def test_views_are_well_exposed():
    brightness = [view.rgb.mean() for seed in range(6) for view in random_views(seed, 1, 128, 48)]
    assert min(brightness) > 40
    assert max(brightness) < 225


def test_heights_and_extents_match_the_street(classes):
    """The road is at height 0. No height in a region exceeds its extent. Cars have the size of real cars."""
    lengths = []
    for seed in range(3):
        for view in random_views(seed, 3, 256, 96):
            semantic = classes.of_raw(view.semantic)
            near = (semantic == 9) & (view.depth < 25)
            assert np.abs(view.height[near]).max() < 0.4
            assert (view.height <= view.extent[..., 0] + 1e-4).all()
            for region in np.unique(view.region[(semantic == 1) & (view.depth < 20)]):
                size = view.extent[view.region == region]
                assert (size == size[0]).all()
                assert size[0, 0] < 2.6
                lengths.append(size[0, 1])
    assert 2.5 < max(lengths) < 7
