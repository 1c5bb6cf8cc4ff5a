"""Choose the labeller. A labeller makes dense image labels from the labels of projected LiDAR points.

Four labellers have the same signature, `painting.Labeller`:

    sparse     labels only the pixels that hold a labelled point
    nearest    labels each pixel like the nearest labelled pixel, up to a radius
    paper      SAM-PLG as in ELiTe's released code: each point prompts masks, each mask takes its majority label
    regions    connected regions of points prompt masks; the nearest label wins, and masks guide it (`regions.py`)

All labellers treat a point with the label `IGNORE` like any other point. Pixels that take its label become `IGNORE`.
"""

from elite_pipeline.config import LabelImages
from elite_pipeline.labellers.painting import Labeller, nearest, vote


def build_labeller(settings: LabelImages) -> Labeller:
    """Return the labeller that `settings` choose. `sparse` and `nearest` never load the image.

    Raises `InputError` where the checkpoint of SAM is missing, has another sha256, or belongs to another encoder. The
    labeller itself raises `InputError` where the machine lacks SAM's precision, or where an image is too large for SAM.
    """
    if settings.labeller == "sparse":
        return lambda sparse, instances, image: vote(sparse, masks=())
    if settings.labeller == "nearest":
        assert settings.nearest is not None
        radius = settings.nearest.radius
        return lambda sparse, instances, image: nearest(sparse, radius=radius)
    import torch

    from elite_pipeline.labellers import regions, sam_plg
    from elite_pipeline.sam.build import build_sam
    from elite_pipeline.sam.view import View

    assert settings.sam is not None
    sam = build_sam(settings.sam.encoder, settings.sam.checkpoint, settings.sam.sha256)
    sam.to("cuda" if torch.cuda.is_available() else "cpu")
    view = View(settings.sam.longest_side, sam.patch, settings.sam.precision)
    if settings.labeller == "paper":
        paper = settings.paper
        assert paper is not None
        return lambda sparse, instances, image: sam_plg.spread(sam, view, image, sparse, instances, paper)
    of_regions = settings.regions
    assert of_regions is not None
    return lambda sparse, instances, image: regions.spread(sam, view, image, sparse, instances, of_regions)
