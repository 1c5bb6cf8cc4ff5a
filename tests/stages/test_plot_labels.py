"""plot_labels: one row for each labelled frame with an image; a column of dense truth only if there is any."""

import numpy as np
import pytest
from PIL import Image

from elite_pipeline.errors import InputError
from elite_pipeline.recordings import index
from elite_pipeline.stages.plot_labels import main


def words(paths, out):
    """Return the command line for one sequence."""
    known = ["--data", str(paths["data"]), "--frames", str(paths["frames"])]
    stores = ["--projection", str(paths["projection"]), "--pseudo-labels", str(paths["pseudo-labels"])]
    return [*known, *stores, "--out", str(out)]


def test_picture_without_truth(labelled, tmp_path):
    main(words(labelled, tmp_path / "labels.png"))
    picture = np.asarray(Image.open(tmp_path / "labels.png").convert("RGB"))
    assert picture.shape[1] > 1500
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 50


def test_picture_with_truth_is_wider(labelled, tmp_path):
    main(words(labelled, tmp_path / "without.png"))
    truth = labelled["data"] / "sequences/00/truth/image_2/semantic"
    truth.mkdir(parents=True)
    Image.fromarray(np.full((40, 80), 40, np.uint16)).save(truth / "000000.png")
    main(words(labelled, tmp_path / "with.png"))
    assert Image.open(tmp_path / "with.png").width > Image.open(tmp_path / "without.png").width


def test_nothing_labelled(labelled, tmp_path, write_index):
    rows = index.pq.read_table(labelled["frames"]).to_pylist()
    write_index(labelled["frames"], [{**row, "labelled": False} for row in rows])
    with pytest.raises(InputError, match="both an image and labels"):
        main(words(labelled, tmp_path / "labels.png"))
