"""Checkpoint files: how to get them, and their check by sha256. The Snakefile imports this module, so not torch."""

import hashlib
from pathlib import Path

from elite_pipeline.choices import ENCODERS
from elite_pipeline.errors import InputError

PACKAGED = Path(__file__).parent / "sam/weights/sam_tiny.safetensors"
"""The weights that ship with the package."""


def where_from(encoder: str, path: Path | str | None) -> str:
    """Returns the command that gets the missing checkpoint `path` of `encoder`."""
    chosen = ENCODERS[encoder]
    if chosen.url is None:
        return "Make it again with: snakemake --cores 2 pretrain_sam"
    other = f". Weights trained without labels: {chosen.without_labels}" if chosen.without_labels else ""
    return f"Get it with: curl -L --create-dirs -o {path} {chosen.url} (sha256 {chosen.sha256}){other}"


def verified(encoder: str, path: Path | str | None, sha256: str | None) -> Path:
    """Returns `path` as a `Path` after checking the file.

    Raises `InputError` where the file is missing, or where its sha256 differs from `sha256` (None: no check).
    """
    if path is None or not Path(path).is_file():
        raise InputError(f"{path}: the checkpoint of {encoder} is missing. {where_from(encoder, path)}")
    path = Path(path)
    if sha256 is not None and (found := _sha256(path)) != sha256:
        raise InputError(
            f"{path}: sha256 is {found}, but the configuration expects {sha256}."
            f" The file is damaged or is a different file. {where_from(encoder, path)}"
        )
    return path


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
