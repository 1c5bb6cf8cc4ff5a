"""SAM's official checkpoint files: where they are and how to know them. Imported by the Snakefile, so without torch."""

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
}
"""Encoder -> (URL, sha256)."""


def where_from(encoder, path):
    """The command that brings the missing checkpoint `path` of `encoder`."""
    if encoder == "sam_tiny":
        return "Remake it with: snakemake --cores 2 pretrain_sam"
    url, sha256 = PUBLISHED[encoder]
    return f"Get it with: curl -L --create-dirs -o {path} {url} (sha256 {sha256})"
