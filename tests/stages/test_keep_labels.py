"""keep_labels: a damaged selection is refused. What it writes is tested with select_labels."""

import pytest

from elite_pipeline.errors import InputError
from elite_pipeline.stages import keep_labels


@pytest.mark.parametrize("content", ["", "[]", '{"01": []}', '{"00": 3}'])
def test_a_damaged_selection_is_refused(recorded, tmp_path, content):
    (tmp_path / "selection.json").write_text(content)
    words = [
        "--frames",
        recorded["frames"],
        "--selection",
        tmp_path / "selection.json",
        "--out",
        tmp_path / "few.parquet",
    ]
    with pytest.raises(InputError, match=r"selection\.json: does not list the labels of sequence 00 .* Delete it"):
        keep_labels.main([*map(str, words)])
    assert not (tmp_path / "few.parquet").exists()
