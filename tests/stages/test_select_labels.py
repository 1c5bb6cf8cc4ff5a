"""select_labels and keep_labels: scans chosen among all sequences, and an index in which only they are labelled."""

from dataclasses import replace

import pyarrow.parquet as pq
import pytest

from elite_pipeline.errors import InputError
from elite_pipeline.recordings import index
from elite_pipeline.stages import keep_labels, select_labels


@pytest.fixture
def frames(recorded, tmp_path):
    """Return indices of three sequences of three frames each; the last frame of each has no labels."""
    paths = [tmp_path / f"{k:02d}.parquet" for k in range(3)]
    rows, source = pq.read_table(recorded["frames"]).to_pylist(), index.read(recorded["frames"]).source
    for path in paths[1:]:
        index.write(path, rows, replace(source, sequence=path.stem))
    assert recorded["frames"] == paths[0]
    return paths


def choose(frames, out, *settings):
    select_labels.main(["--frames", *map(str, frames), "--out", str(out), 'by="interval"', "seed=0", *settings])


def run(frames, sequence, out, *settings):
    selection, path = out.with_name("selection.json"), frames[int(sequence)]
    choose(frames, selection, *settings)
    keep_labels.main(["--frames", str(path), "--selection", str(selection), "--out", str(out)])
    return index.read(out)


def test_each_sequence_gets_its_part_of_one_selection(frames, tmp_path, capsys):
    found = [run(frames, f"{k:02d}", tmp_path / f"few_{k}.parquet", "labelled=0.3") for k in range(3)]
    assert [one.labelled.tolist() for one in found] == [[True, False, False], [False, True, False], [False] * 3]
    output = capsys.readouterr().out
    assert "2 scans of 2 sequences keep their labels" in output
    assert "few_1.parquet: labels of 1 scans: 000001" in output
    whole = index.read(frames[1])
    assert whole.class_points[1, 9] == 500
    for k, one in enumerate(found):
        assert (one.class_points == whole.class_points * one.labelled[:, None]).all(), k


def test_zero_shot_selects_no_labels(frames, tmp_path):
    found = run(frames, "01", tmp_path / "none.parquet", "labelled=0.0")
    assert not found.labelled.any()
    assert not found.class_points.any()


def test_all_other_columns_are_unchanged(frames, tmp_path):
    run(frames, "01", tmp_path / "few.parquet", 'labelled={"00": ["000000"]}')
    before, after = (pq.read_table(path).to_pydict() for path in (frames[1], tmp_path / "few.parquet"))
    assert after.pop("labelled") == [False] * 3
    assert after.pop("class_points") == [[0] * 20] * 3
    assert after == {name: values for name, values in before.items() if name not in ("labelled", "class_points")}


def test_all_labels_change_nothing(frames, tmp_path):
    run(frames, "00", tmp_path / "all.parquet", "labelled=1.0")
    assert pq.read_table(tmp_path / "all.parquet").equals(pq.read_table(frames[0]))


def test_faults_leave_no_file(frames, tmp_path):
    out = tmp_path / "few.json"
    with pytest.raises(InputError, match="sequence 01 has no labelled scans 000002"):
        choose(frames, out, 'labelled={"01": ["000002"]}')
    frames[2].write_bytes(b"no parquet")
    with pytest.raises(InputError, match=r"02\.parquet is not a readable index"):
        choose(frames, out, "labelled=0.5")
    with pytest.raises(InputError, match="labelled"):
        choose(frames[:2], out, "labelled=-0.5")
    assert not list(tmp_path.glob("few.json*"))
