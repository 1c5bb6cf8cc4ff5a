"""What stages made under `data/` and may replace: each such folder carries a marker, which is written before all else.

Recordings lie under `data/` too, often behind a link. Snakemake empties the folder that a rule makes before its stage
starts, so the check comes when the configuration is read.
"""

from pathlib import Path

from elite_pipeline.errors import InputError

MARKER = "simulated.json"
"""File of a simulated folder: what its contents follow from."""


def refuse_recordings(folder: Path, stage: str, root: Path = Path("data")) -> None:
    """Raise `InputError` where `folder`, which `stage` would replace, may hold what somebody recorded.

    That is a folder behind a link below `root`, and one that holds files but no `MARKER`. A folder that does not exist,
    or is empty, passes; `root` itself may be a link, to another disk for example.
    """
    above = [place for place in folder.parents if root in place.parents]
    for place in (folder, *above):
        if place.is_symlink():
            raise InputError(
                f"{place} is a link to {place.readlink()}, and {stage} would replace what is behind it. If these are"
                f" recordings, remove {stage}: from their section of config.yaml. If not, remove the link: rm {place}"
            )
    if folder.exists() and not (folder / MARKER).exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(
            f"{folder} was not made by {stage} (it holds no {MARKER}), and {stage} would replace it. If these are"
            f" recordings, remove {stage}: from their section of config.yaml. If not, delete or move the folder."
        )
