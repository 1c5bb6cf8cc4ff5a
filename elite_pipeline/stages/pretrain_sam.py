"""Train the packaged `sam_tiny` weights again: SAM with a small encoder, on views of random simulated places."""

import json
from pathlib import Path

from elite_pipeline import errors, stages
from elite_pipeline.checkpoints import PACKAGED
from elite_pipeline.config import PretrainSam


def main(argv: list[str] | None = None) -> None:
    """Parse, render, train, write."""
    stage = stages.parser(__doc__)
    stage.add_argument("--run", type=Path, required=True, help="folder of rendered views and resumable checkpoints")
    stage.add_argument("--out", type=Path, default=PACKAGED, help=".safetensors to write (default: the packaged one)")
    stage.add_argument("--processes", type=int, default=2, help="number of processes that render views")
    arguments, settings = stages.parse(stage, PretrainSam, argv)
    if settings.class_names and arguments.out == PACKAGED:
        raise errors.InputError("class_names=true trains a control, not packaged weights: give another --out")

    import torch

    from elite_pipeline.provenance import commit, versions
    from elite_pipeline.sam.state import save_sam
    from elite_pipeline.sam_pretraining import rendered_views
    from elite_pipeline.sam_pretraining.dense import pretrain

    rendered = rendered_views.render(
        arguments.run / "views",
        worlds=settings.worlds + settings.calibration_worlds,
        views_per_world=settings.views_per_world,
        height=settings.image_height,
        width=settings.image_width,
        seed=settings.seed,
        processes=arguments.processes,
    )
    count, device = settings.worlds * settings.views_per_world, "cuda" if torch.cuda.is_available() else "cpu"
    sam = pretrain(rendered[:count], rendered[count:], settings, arguments.run, device=device)
    facts = {"settings": settings.model_dump(mode="json"), "versions": versions(), "commit": commit()}
    save_sam(sam, arguments.out, {key: json.dumps(value) for key, value in facts.items()})


if __name__ == "__main__":
    errors.run(main)
