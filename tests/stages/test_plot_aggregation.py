"""plot_aggregation: which points are seen, reached and never seen, and their classes."""

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb
from PIL import Image

from elite_pipeline import store
from elite_pipeline.datasets.classes import class_table
from elite_pipeline.figures import aggregation
from elite_pipeline.soft_labels import encode
from elite_pipeline.stages import plot_aggregation

CLASSES = class_table("semantickitti")
CAR, ROAD = 1, 9


@pytest.fixture
def figure(monkeypatch):
    """A list that gets each figure in place of its file."""
    drawn = []
    monkeypatch.setattr(aggregation, "save", lambda figure, path: drawn.append(figure))
    return drawn


def panels(figure):
    return [axis for axis in figure.axes if axis.collections]


@pytest.mark.parametrize("labelled", [True, False])
def test_each_point_has_its_kind_and_its_class(figure, tmp_path, labelled):
    points = np.array([[1.0, 0, 0], [2, 0, 5], [3, 0, -1], [4, 0, 0]])
    frame, aggregated = np.array([CAR, 0, 0, 0]), np.array([ROAD, CAR, 0, 0])
    truth = np.array([CAR, CAR, ROAD, 0]) if labelled else None
    aggregation.plot_aggregation(tmp_path / "a.png", "00/000000", points, frame, aggregated, truth, CLASSES)
    shown = panels(figure[0])
    assert len(shown) == (4 if labelled else 3)
    texts = [text.get_text() for text in shown[0].get_legend().get_texts()]
    assert [text.rpartition(": ")[2] for text in texts] == ["25%", "25%", "50%"]

    def colours(panel):
        """Colour of the points at 1, 2, 3 and 4 metres ahead."""
        drawn = panel.collections[0]
        ahead = np.asarray(drawn.get_offsets())[:, 1]
        return np.array([drawn.get_facecolors()[list(ahead).index(x)][:3] for x in (1, 2, 3, 4)])

    kinds = [to_rgb(aggregation.REACH[name][1]) for name in ("seen", "reached", "never", "never")]
    assert colours(shown[0]) == pytest.approx(np.array(kinds))
    car, road, none = (tuple(c / 255) for c in (CLASSES.palette[CAR], CLASSES.palette[ROAD], aggregation.NONE))
    assert colours(shown[1]) == pytest.approx(np.array([car, none, none, none]))
    assert colours(shown[2]) == pytest.approx(np.array([road, car, none, none]))
    if labelled:
        assert colours(shown[3]) == pytest.approx(np.array([car, car, road, none]))


def test_a_scan_that_no_camera_ever_saw_is_drawn(taught, tmp_path):
    """The middle frame of `taught` has hidden points only, and its aggregated store has none of it."""
    about = {"sequence": "00", "frames": ["000000", "000001", "000002"], "provenance": {}}
    with store.create(tmp_path / "aggregated", "aggregated", **about) as out:
        out.rows("point", (), np.uint32).append(np.array([3]))
        out.rows("soft_label", (8,), np.uint8).append(encode(torch.eye(20)[[CAR]]))
        out.rows("views", (), np.uint8).append(np.ones(1))
        out.rows("own", (), np.bool_).append(np.ones(1))
        out.array("offsets", np.array([0, 1, 1, 1]))
    words = [word for name, path in taught.items() for word in (f"--{name}", str(path))]
    plot_aggregation.main([*words, "--aggregated", str(tmp_path / "aggregated"), "--out", str(tmp_path / "a.png")])
    image = np.asarray(Image.open(tmp_path / "a.png").convert("RGB"))
    assert (image == 0x5A).all(2).any(), "the colour of points that no camera saw"
