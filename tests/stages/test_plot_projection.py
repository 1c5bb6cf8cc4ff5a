"""plot_projection: a picture with the class colours of the points, and a clear error without an image."""

import numpy as np
import pytest
from PIL import Image

from elite_pipeline.errors import InputError
from elite_pipeline.figures.canvas import paint
from elite_pipeline.recordings import index
from elite_pipeline.stages.plot_projection import main


def words(paths, out):
    """Return the command line for one sequence."""
    known = ["--data", str(paths["data"]), "--frames", str(paths["frames"])]
    return [*known, "--projection", str(paths["projection"]), "--out", str(out)]


def test_paint_puts_squares_where_the_points_are():
    image = np.full((20, 1241, 3), 200, dtype=np.uint8)
    red_green = np.array([(255, 0, 0), (0, 255, 0)], np.uint8)
    picture = paint(image, np.array([[10.7, 5.2], [1240.9, 19.9]]), red_green, size=1)
    assert picture[5, 10].tolist() == [255, 0, 0]
    assert picture[19, 1240].tolist() == [0, 255, 0]
    assert (picture[0, 0] == 120).all(), "the rest is darkened"
    assert (image == 200).all(), "the image itself is untouched"


def test_small_image_is_enlarged_with_its_points():
    picture = paint(
        np.zeros((20, 620, 3), np.uint8), np.array([[10.5, 5.0]]), np.array([(255, 0, 0)], np.uint8), size=1
    )
    assert picture.shape == (40, 1240, 3)
    assert np.argwhere(picture[..., 0]).tolist() == [[10, 21]]


def test_picture(recorded, tmp_path, classes):
    main(words(recorded, tmp_path / "projection.png"))
    picture = np.asarray(Image.open(tmp_path / "projection.png").convert("RGB"))
    assert picture.shape[1] > 1000
    drawn = {tuple(c) for c in picture.reshape(-1, 3)[::7]}
    assert any(classes.colours[k] in drawn for k in (1, 9, 11, 13, 15))


def test_no_image_to_draw_on(recorded, tmp_path, write_index):
    rows = index.pq.read_table(recorded["frames"]).to_pylist()
    sizes = {f"{camera}_{side}": 0 for camera in ("image_0", "image_2") for side in ("height", "width")}
    write_index(recorded["frames"], [{**row, **sizes} for row in rows])
    with pytest.raises(InputError, match=r"no frame of .* has an image"):
        main(words(recorded, tmp_path / "projection.png"))
