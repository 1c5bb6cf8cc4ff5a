"""Official checkpoint files: where they are and how to know them. Imported by the Snakefile, so without torch."""

import hashlib
from pathlib import Path

from elite_pipeline.errors import InputError

_FOLDER = "https://dl.fbaipublicfiles.com/segment_anything/"
PUBLISHED = {
    "vit_b": (
        _FOLDER + "sam_vit_b_01ec64.pth",
        "ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912",
    ),
    "vit_l": (
        _FOLDER + "sam_vit_l_0b3195.pth",
        "3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622",
    ),
    "vit_h": (
        _FOLDER + "sam_vit_h_4b8939.pth",
        "a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e",
    ),
    "resnet50": (
        "https://download.pytorch.org/models/resnet50-0676ba61.pth",
        "0676ba61b6795bbe1773cffd859882e5e297624d384b6993f7c9e683e722fb8a",
    ),
}
"""Encoder -> (URL, sha256)."""

WITHOUT_LABELS = {
    "resnet50": "https://dl.fbaipublicfiles.com/moco/moco_checkpoints/moco_v2_800ep/moco_v2_800ep_pretrain.pth.tar"
}
"""Encoder -> URL of weights that were learnt without labels, here MoCo-v2's (CC BY-NC 4.0)."""


def where_from(encoder, path):
    """The command that brings the missing checkpoint `path` of `encoder`."""
    if encoder == "sam_tiny":
        return "Remake it with: snakemake --cores 2 pretrain_sam"
    url, sha256 = PUBLISHED[encoder]
    other = f". Learnt without labels: {WITHOUT_LABELS[encoder]}" if encoder in WITHOUT_LABELS else ""
    return f"Get it with: curl -L --create-dirs -o {path} {url} (sha256 {sha256}){other}"


def verified(encoder, path, sha256):
    """`path` as a `Path`; `InputError` if no file is there, or one whose sha256 differs from `sha256`, unless None."""
    if path is None or not Path(path).is_file():
        raise InputError(f"{path}: the checkpoint of {encoder} is missing. {where_from(encoder, path)}")
    path = Path(path)
    if sha256 is not None and (found := _sha256(path)) != sha256:
        raise InputError(
            f"{path}: sha256 is {found}, but the configuration expects {sha256}."
            f" The file is damaged or another one. {where_from(encoder, path)}"
        )
    return path


def _sha256(path):
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
