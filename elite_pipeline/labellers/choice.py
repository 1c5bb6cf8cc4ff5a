"""Dense image labels from sparse ones: the labels of projected LiDAR points, spread over the pixels around them.

Four labellers share one signature, `sparse.Labeller`:

    sparse     only the pixels on which a labelled point falls: nothing is spread
    nearest    every pixel takes the label of the nearest labelled pixel, up to a radius
    paper      SAM-PLG as ELiTe's released code has it: each point prompts masks, each mask takes its majority label
    regions    connected regions of points prompt masks, in which the nearest label wins (`regions.py`)

In all, a point whose label is `IGNORE` takes part like any other and yields `IGNORE` where it wins.
"""

from elite_pipeline.config import LabelImages
from elite_pipeline.labellers.painting import Labeller, nearest, vote


def build_labeller(settings: LabelImages) -> Labeller:
    """The labeller that `settings` choose; `sparse` and `nearest` never ask for the image.

    Raises `InputError` where the checkpoint of SAM is missing, of another sha256, or not of this encoder; the labeller
    does where the machine lacks its precision, or where an image is too large for it.
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
