"""Dense image labels from sparse ones: the labels of projected LiDAR points, spread over the pixels around them.

Four labellers share one signature, `(sparse, instances, image) -> PseudoLabels`:

    sparse     only the pixels on which a labelled point falls: nothing is spread
    nearest    every pixel takes the label of the nearest labelled pixel, up to a radius
    paper      SAM-PLG as ELiTe's released code has it: each point prompts masks, each mask takes its majority label
    regions    connected regions of points prompt masks, in which the nearest label wins (`regions.py`)

In all, a point whose label is `IGNORE` takes part like any other and yields `IGNORE` where it wins.
"""

from elite_pipeline.labellers.sparse import nearest, vote


def build_labeller(settings):
    """The labeller of `settings` (a `config.LabelImages`): a function of (sparse, instances, image) -> `PseudoLabels`.

    sparse, instances: of `paint`. image: a function without arguments that returns the (H, W, 3) uint8 image; `sparse`
    and `nearest` never call it.
    """
    if settings.labeller == "sparse":
        return lambda sparse, instances, image: vote(sparse, masks=())
    if settings.labeller == "nearest":
        return lambda sparse, instances, image: nearest(sparse, radius=settings.nearest.radius)
    import torch

    from elite_pipeline.labellers import regions, sam_plg
    from elite_pipeline.sam.build import build_sam
    from elite_pipeline.sam.view import View

    sam = build_sam(settings.sam.encoder, settings.sam.checkpoint, settings.sam.sha256)
    sam.to("cuda" if torch.cuda.is_available() else "cpu")
    view = View(settings.sam.longest_side, sam.patch, settings.sam.precision)
    if settings.labeller == "paper":
        return lambda sparse, instances, image: sam_plg.spread(sam, view, image, sparse, instances, settings.paper)
    return lambda sparse, instances, image: regions.spread(sam, view, image, sparse, instances, settings.regions)
