"""segment_images: the rows of the store are the superpixels of the projected points."""

import numpy as np
import pyarrow.parquet as pq
import pytest

from elite_pipeline import sources, store
from elite_pipeline.config import SegmentImages
from elite_pipeline.errors import InputError
from elite_pipeline.recordings import superpixels
from elite_pipeline.stages import segment_images

SETTINGS = SegmentImages(segments=30, compactness=6.0, sigma=3.0)


def build(recorded, out, **changes):
    words = [word for name, path in {**recorded, **changes}.items() for word in (f"--{name}", str(path))]
    segment_images.main([*words, "--out", str(out), "segments=30", "compactness=6.0", "sigma=3.0"])
    return store.open_store(out, "superpixels")


def files(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_rows_are_those_of_the_projection(recorded, tmp_path, capsys, open_drive):
    group = build(recorded, tmp_path / "superpixels.zarr")
    projection, recording = store.Projection(recorded["projection"]), open_drive(recorded["data"] / "sequences/00")
    segment = store.read(group, "segment")
    assert segment.dtype == np.uint16
    assert len(segment) == projection.offsets[-1] > 100
    images = 0
    for f, frame in enumerate(projection.frames):
        for c, camera in enumerate(projection.cameras):
            rows = projection.rows(f, c)
            if not recording.has_image(frame, camera):
                assert rows.start == rows.stop
                continue
            found, images = superpixels.segments(recording.image(frame, camera), SETTINGS), images + 1
            expected = [found[int(v), int(u)] for u, v in projection.read("pixel", rows)]
            assert segment[rows].tolist() == expected
            assert len(set(expected)) > 5
    assert images == 4  # of six
    assert group.attrs["cameras"] == projection.cameras
    assert group.attrs["provenance"]["settings"] == SETTINGS.model_dump()
    assert f"{len(segment)} points in 4 images of " in capsys.readouterr().out


def test_a_killed_run_is_resumed(repeated, tmp_path, monkeypatch, capsys):
    """Twelve frames with sixteen images; each image fills a shard."""
    recorded, divide, calls = repeated(4), superpixels.segments, []
    monkeypatch.setattr(store, "CHUNK_BYTES", 16)
    monkeypatch.setattr(store, "SHARD_BYTES", 32)
    monkeypatch.setattr(sources, "digest", lambda stage: "")  # the tested code may change during the test
    build(recorded, tmp_path / "whole.zarr")

    def killed(image, settings):
        calls.append(image)
        if len(calls) == 7:
            raise KeyboardInterrupt
        return divide(image, settings)

    monkeypatch.setattr(superpixels, "segments", killed)
    with pytest.raises(KeyboardInterrupt):
        build(recorded, tmp_path / "killed.zarr")
    assert not (tmp_path / "killed.zarr").exists()
    capsys.readouterr()
    build(recorded, tmp_path / "killed.zarr")
    said = capsys.readouterr().out
    assert "segment_images 00 resumes at image 6 of 16" in said
    assert len(calls) == 7 + 10
    assert files(tmp_path / "killed.zarr") == files(tmp_path / "whole.zarr")


def test_a_projection_of_other_frames_is_refused(recorded, tmp_path):
    pq.write_table(pq.read_table(recorded["frames"]).slice(0, 2), tmp_path / "short.parquet")
    with pytest.raises(InputError, match=r"projection.zarr has other frames than .*short.parquet"):
        build(recorded, tmp_path / "superpixels.zarr", frames=tmp_path / "short.parquet")
    assert not (tmp_path / "superpixels.zarr").exists()
