"""Marker files of the folders under `data/` that stages made and may replace. A stage writes the marker first.

Recordings are also under `data/`, often behind a link. Snakemake empties the folder that a rule makes before its stage
starts. Therefore the check is made when the configuration is read.
"""

from pathlib import Path

from elite_pipeline.errors import InputError

MARKER = "simulated.json"
"""The marker file in a simulated folder. It states the settings that determine the contents."""


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
