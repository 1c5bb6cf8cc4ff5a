"""Official checkpoint files: where they are and how to know them. Imported by the Snakefile, so without torch."""

import hashlib
from pathlib import Path

from elite_pipeline.choices import ENCODERS
from elite_pipeline.errors import InputError

PACKAGED = Path(__file__).parent / "sam/weights/sam_tiny.safetensors"
"""The weights that ship with the package."""


def where_from(encoder: str, path: Path | str | None) -> str:
    """The command that brings the missing checkpoint `path` of `encoder`."""
    chosen = ENCODERS[encoder]
    if chosen.url is None:
        return "Remake it with: snakemake --cores 2 pretrain_sam"
    other = f". Learnt without labels: {chosen.without_labels}" if chosen.without_labels else ""
    return f"Get it with: curl -L --create-dirs -o {path} {chosen.url} (sha256 {chosen.sha256}){other}"


def verified(encoder: str, path: Path | str | None, sha256: str | None) -> Path:
    """`path` as a `Path`.

    Raises `InputError` where no file is there, or one whose sha256 differs from `sha256`, unless that is None.
    """
    if path is None or not Path(path).is_file():
        raise InputError(f"{path}: the checkpoint of {encoder} is missing. {where_from(encoder, path)}")
    path = Path(path)
    if sha256 is not None and (found := _sha256(path)) != sha256:
        raise InputError(
            f"{path}: sha256 is {found}, but the configuration expects {sha256}."
            f" The file is damaged or another one. {where_from(encoder, path)}"
        )
    return path


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
