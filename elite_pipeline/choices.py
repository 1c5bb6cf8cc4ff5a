"""Tables of the formats, students and encoders that the configuration can name. A new choice is a new line in a table.

The configuration and the Snakefile import this module, so it imports no other part of the package.
"""

from dataclasses import dataclass
from importlib import import_module
from typing import Any


@dataclass(frozen=True)
class Format:
    """A format of recorded drives that `datasets.<name>.format` can name."""

    recording: str
    """The class that implements `datasets.Recording`."""
    tables: bool = False
    """Whether tables over all sequences say where the files are. `read_tables` reads them once and writes one file per
    sequence; the class has `read_tables` and `records`, see `datasets.Tables`."""
    splits: str | None = None
    """Official split -> names of its sequences; None: the format has none."""
    longest: int = 4661
    """Frames of the longest sequence; the default is SemanticKITTI's. The run times of cluster jobs follow it."""


FORMATS = {
    "semantickitti": Format("elite_pipeline.datasets.semantickitti:SemanticKitti"),
    "nuscenes": Format(
        "elite_pipeline.datasets.nuscenes:NuScenes",
        tables=True,
        splits="elite_pipeline.datasets.nuscenes_splits:SPLITS",
        longest=41,
    ),
}
"""`datasets.<name>.format` -> its `Format`."""

LABEL_FILES = {
    "semantickitti": "elite_pipeline.deploy.semantickitti_files:FILES",
    "nuscenes": "elite_pipeline.deploy.nuscenes_files:FILES",
}
"""`datasets.<name>.format` -> its `deploy.formats.LabelFiles`. Other formats use those of SemanticKITTI."""


@dataclass(frozen=True)
class ImageFormat:
    """A format of labelled images that `image_sets.<name>.format` can name."""

    images: str
    """Function of (folder, classes) that returns a `datasets.labelled_images.LabelledSet`."""
    parts: str
    """Function of the folder: the files and folders in it that tell whether labels have changed."""
    categories: str | None = None
    """Category -> raw id, of all categories that the format can label; None: it can label every class."""


IMAGE_FORMATS = {
    "folder": ImageFormat(
        "elite_pipeline.datasets.labelled_images:open_images", "elite_pipeline.datasets.labelled_images:parts"
    ),
    "nuimages": ImageFormat(
        "elite_pipeline.datasets.nuimages:open_nuimages",
        "elite_pipeline.datasets.nuimages_tables:parts",
        categories="elite_pipeline.datasets.nuimages_tables:CATEGORIES",
    ),
}
"""`image_sets.<name>.format` -> its `ImageFormat`."""

IMAGE_FILES = {
    "folder": "elite_pipeline.simulation.image_files:FolderFiles",
    "nuimages": "elite_pipeline.simulation.nuimages_files:NuImagesFiles",
}
"""`image_sets.<name>.format` -> the class that writes simulated images, see `simulation.image_files.ImageFiles`."""

DRIVES = {
    "semantickitti": "elite_pipeline.simulation.drive:write_drive",
    "nuscenes": "elite_pipeline.simulation.nuscenes_drive:write_nuscenes_drive",
}
"""`datasets.<name>.format` -> the function of (folder, sequence, settings) that writes a simulated drive in it."""

STUDENTS = {
    "spvcnn": "elite_pipeline.student.spvcnn:SPVCNN",
    "minkunet": "elite_pipeline.student.minkunet:MinkUNet",
}
"""`students.<name>.network.kind` -> the class that implements `student.network.StudentNetwork`."""


@dataclass(frozen=True)
class Encoder:
    """An image encoder that `teachers.<name>.encoder` can name."""

    build: str
    """Function of (name, checkpoint, sha256) that returns a `teacher.encoders.ImageEncoder`."""
    promptable: bool = False
    """Whether it is a SAM, which labellers can prompt."""
    adaptable: bool = True
    """Whether it takes adapters (`peft.method`)."""
    longest_side: int | None = None
    """The largest image side that it takes, in pixels; None: any."""
    url: str | None = None
    """Address of its published weights; None: the weights ship with the package."""
    sha256: str | None = None
    """The sha256 of the published weights."""
    without_labels: str | None = None
    """Address of weights that were trained without labels."""


_SAM = "elite_pipeline.sam.build:build_image_encoder"
_META = "https://dl.fbaipublicfiles.com/"
ENCODERS = {
    "sam_tiny": Encoder(_SAM, promptable=True),
    "vit_b": Encoder(
        _SAM,
        promptable=True,
        longest_side=1024,
        url=f"{_META}segment_anything/sam_vit_b_01ec64.pth",
        sha256="ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912",
    ),
    "vit_l": Encoder(
        _SAM,
        promptable=True,
        longest_side=1024,
        url=f"{_META}segment_anything/sam_vit_l_0b3195.pth",
        sha256="3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622",
    ),
    "vit_h": Encoder(
        _SAM,
        promptable=True,
        longest_side=1024,
        url=f"{_META}segment_anything/sam_vit_h_4b8939.pth",
        sha256="a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e",
    ),
    "resnet50": Encoder(
        "elite_pipeline.teacher.resnet:build_resnet",
        adaptable=False,
        url="https://download.pytorch.org/models/resnet50-0676ba61.pth",
        sha256="0676ba61b6795bbe1773cffd859882e5e297624d384b6993f7c9e683e722fb8a",
        # MoCo-v2's, CC BY-NC 4.0.
        without_labels=f"{_META}moco/moco_checkpoints/moco_v2_800ep/moco_v2_800ep_pretrain.pth.tar",
    ),
}
"""`teachers.<name>.encoder`, or `encoder` of a labeller's SAM -> its `Encoder`."""

STAGES = 4
"""The number of stages of every encoder that are distilled: one for each scale of ELiTe's student."""

TABLES = {
    "FORMATS": {name: known.recording for name, known in FORMATS.items()},
    "LABEL_FILES": LABEL_FILES,
    "IMAGE_FORMATS": {name: known.images for name, known in IMAGE_FORMATS.items()},
    "IMAGE_FILES": IMAGE_FILES,
    "DRIVES": DRIVES,
    "STUDENTS": STUDENTS,
    "ENCODERS": {name: encoder.build for name, encoder in ENCODERS.items()},
}
"""Table -> {name: `module:attribute`}."""


def load(place: str) -> Any:
    """Returns the object that `module:attribute` names."""
    module, attribute = place.split(":")
    return getattr(import_module(module), attribute)
