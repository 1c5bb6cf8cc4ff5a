"""Train an image segmentation network on labelled images: adapters in an encoder, and one fused head.

    python -m elite_pipeline.stages.tune_image_teacher --images data/worlds --out cache/image_teachers/fskd_tiny \
        held_out=0.1 encoder='"sam_tiny"' longest_side=512 upscaler=64 ...

The last images by name are held out to measure the network; of nuImages, those of `v1.0-val`. A killed run resumes from
its last checkpoint in `<out>.run/`.
"""

import os
import shutil
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, model_validator

from elite_pipeline.config import ImageFormatName, TeacherToTune
from elite_pipeline.errors import InputError, run
from elite_pipeline.stages import parse, parser


class ImageTeacherToTune(TeacherToTune):
    """The settings of this stage.

    They add to the teacher's settings: held_out, the share of images to measure on; classes, the class table; format,
    how the images are stored.
    """

    held_out: Annotated[float, Field(gt=0, lt=1)]
    classes: str
    format: ImageFormatName = "folder"

    @model_validator(mode="after")
    def _it_is_tuned(self) -> Self:
        if self.tune_teacher.steps == 0:
            raise ValueError("tune_teacher.steps is 0, but an image segmentation network must learn its classes")
        return self


def main(argv: list[str] | None = None) -> None:
    """Check the images, tune, measure on the held-out images, write."""
    stage = parser(__doc__)
    stage.add_argument("--images", type=Path, required=True, help="data/<image_set>")
    stage.add_argument("--out", type=Path, required=True, help="folder of the tuned teacher to write")
    args, settings = parse(stage, ImageTeacherToTune, argv)

    import torch

    from elite_pipeline import sources
    from elite_pipeline.checkpoints import PACKAGED
    from elite_pipeline.choices import IMAGE_FORMATS, load
    from elite_pipeline.datasets.classes import IGNORE, class_table
    from elite_pipeline.datasets.labelled_images import LabelledSet
    from elite_pipeline.provenance import provenance
    from elite_pipeline.teacher import image_network, storage, tuning

    device = "cuda" if torch.cuda.is_available() else "cpu"
    classes = class_table(settings.classes)
    folder: LabelledSet = load(IMAGE_FORMATS[settings.format].images)(args.images, classes)
    for note in folder.notes:
        print(f"{args.images}: {note}")
    first, last = (image_network.Pictures(folder, items) for items in folder.split(settings.held_out))
    known = tuning.class_pixels(first) > 0
    known[IGNORE] = False
    if not known.any():
        raise InputError(f"{args.images}: no labels outside the last {len(last)} images. Add labels.")
    made_by = provenance(settings, *([] if settings.checkpoint else [PACKAGED]))  # settings hold a checkpoint's sha256
    made_by["inputs"][str(args.images)] = folder.crc32
    code = sources.digest("tune_image_teacher")
    runs = args.out.with_name(args.out.name + ".run")
    run_folder = runs / storage.fingerprint(made_by["settings"], made_by["inputs"], code)

    teacher, view = storage.build_teacher(settings, classes, "segmentation")
    sizes = tuning.trainable_parameters(teacher)
    print(f"{len(first)} images; trainable parameters: {sizes['encoder']:,} in adapters, {sizes['heads']:,} in heads")
    tuning.tune(teacher, view, first, settings, run_folder, device=device)
    teacher.silence(torch.from_numpy(known))  # pyright: ignore[reportCallIssue]
    (measured,) = tuning.agreement_at_points(teacher, view, last, device=device)
    print(f"at labelled pixels of {len(last)} held-out images: {measured}")

    description = {
        "kind": "segmentation",
        "settings": made_by["settings"],
        "classes": classes.to_json(),
        "known_classes": teacher.known_classes(classes),  # pyright: ignore[reportCallIssue]
        "trainable_parameters": sizes,
        "images": len(first),
        "order": folder.order,
        "held_out": {
            "images": len(last),
            "accuracy": measured.accuracy,
            "miou": measured.miou,
            "iou": measured.iou,
        },
        "provenance": made_by,
    }
    partial = args.out.with_name(args.out.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    storage.save(teacher.cpu(), partial, description)
    (partial / "README.md").write_text(image_network.model_card(description))
    shutil.rmtree(args.out, ignore_errors=True)
    os.rename(partial, args.out)
    shutil.rmtree(runs, ignore_errors=True)
    print(f"{args.out}: tuned image segmentation network")


if __name__ == "__main__":
    run(main)
