"""Marker files of folders that stages made and may replace: simulated data, and exported labels.

Recordings are also under `data/`, often behind a link. Snakemake empties the folder that a rule makes before its stage
starts. Therefore the checks are made before any job runs. Simulating stages write their marker first.
"""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from elite_pipeline.errors import InputError
from elite_pipeline.provenance import listing_digest

MARKER = "simulated.json"
"""The marker file in a simulated folder. It states the settings that determine the contents."""

EXPORTED = "export.json"
"""The marker file in a folder of exported labels. It holds the listing digest of the label files."""


def refuse_recordings(folder: Path, stage: str, root: Path = Path("data")) -> None:
    """Raise `InputError` where `stage` would replace `folder`, but it may contain recordings.

    That is the case for a folder behind a link below `root`, and for a folder with files but without `MARKER`. A
    missing or empty folder passes. `root` itself may be a link, for example to another disk.
    """
    above = [place for place in folder.parents if root in place.parents]
    for place in (folder, *above):
        if place.is_symlink():
            raise InputError(
                f"{place} is a link to {place.readlink()}, and {stage} would replace the files behind it. If these are"
                f" recordings, remove {stage}: from their section of config.yaml. If not, remove the link: rm {place}"
            )
    if folder.exists() and not (folder / MARKER).exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(
            f"{folder} was not made by {stage} (it has no {MARKER}), and {stage} would replace it. If these are"
            f" recordings, remove {stage}: from their section of config.yaml. If not, delete or move the folder."
        )


def refuse_tables(root: Path, stage: str) -> None:
    """Raise `InputError` where folder `root` of a data set may hold recorded nuScenes: see `refuse_recordings`."""
    for pattern in ("v1.0-*", "lidarseg/v1.0-*", "panoptic/v1.0-*"):
        for folder in sorted(root.glob(pattern)):
            refuse_recordings(folder, stage)


@contextmanager
def replacing(folder: Path, stage: str, about: dict[str, Any]) -> Iterator[Path]:
    """Yield `<folder>.partial`, which has only `MARKER` with the content `about`. Then it becomes `folder`.

    After an exception, `folder` is as it was. Raises `InputError` where one of the two folders may hold recordings
    (see `refuse_recordings`).
    """
    partial = folder.with_name(folder.name + ".partial")
    for place in (folder, partial):
        refuse_recordings(place, stage)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    (partial / MARKER).write_text(json.dumps(about, indent=2) + "\n")
    yield partial
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)


def refuse_edited(folder: Path) -> None:
    """Raise `InputError` where `export_labels` would replace `folder`, but it may contain somebody's work.

    That is the case for a link, for a folder with files but without `EXPORTED`, and where label files were added,
    removed or changed since they were exported. A missing or empty folder passes.
    """
    remedy = f"export_labels would replace it. Move it to another place, or delete it: rm -r {folder}"
    if folder.is_symlink():
        raise InputError(f"{folder} is a link to {folder.readlink()}, and {remedy}")
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    marker = folder / EXPORTED
    if not marker.exists():
        raise InputError(f"{folder} was not made by export_labels (it has no {EXPORTED}), and {remedy}")
    try:
        digest = json.loads(marker.read_text())["digest"]
        same = digest == listing_digest([folder / "predictions"])
    except (OSError, ValueError, KeyError, TypeError):
        same = False
    if not same:
        raise InputError(f"{folder}: label files have changed since they were exported, or their dates have. {remedy}")
