"""Tune the teacher on the pseudo-labels of the training sequences: adapters in SAM's image encoder, and 2D heads.

A killed run resumes from its last checkpoint in `run/` beside the output. With 0 steps nothing is learnt: the encoder's
features are standardised over all images, which needs neither labels nor pseudo-labels.
"""

import os
import shutil
from pathlib import Path

from elite_pipeline.config import TeacherToTune
from elite_pipeline.errors import InputError, run
from elite_pipeline.stages import add_sequences, parse, parser


def main(argv: list[str] | None = None) -> None:
    """Parse, read, tune, measure, write."""
    stage = parser(__doc__)
    add_sequences(stage, "frames", "projection", optional=("pseudo-labels",))
    stage.add_argument("--out", type=Path, required=True, help="folder of the tuned teacher to write")
    args, settings = parse(stage, TeacherToTune, argv)

    import torch

    from elite_pipeline import sources
    from elite_pipeline.checkpoints import PACKAGED
    from elite_pipeline.provenance import provenance
    from elite_pipeline.teacher import frozen, storage, tuning
    from elite_pipeline.teacher.tuning_images import LabelledImages

    device = "cuda" if torch.cuda.is_available() else "cpu"
    kind = "stages" if settings.tune_teacher.steps else "frozen"
    if kind == "stages" and len(args.pseudo_labels) != len(args.frames):
        raise InputError(
            f"--pseudo-labels names {len(args.pseudo_labels)} stores for {len(args.frames)} sequences: give one each"
        )
    files = (args.data, args.frames, args.projection, args.pseudo_labels)
    images = LabelledImages(*files, unlabelled=kind == "frozen", held_out=settings.tune_teacher.held_out)
    packaged = [] if settings.checkpoint else [PACKAGED]  # the settings hold a checkpoint's sha256
    made_by = provenance(settings, *packaged, *args.frames, *args.projection, *args.pseudo_labels)
    code = sources.digest("tune_teacher")
    run_folder = args.out.parent / "run" / storage.fingerprint(made_by["settings"], made_by["inputs"], code)

    description = {"kind": kind, "settings": made_by["settings"], "images": len(images), "provenance": made_by}
    teacher, view = storage.build_teacher(settings, images.classes, kind)
    if kind == "frozen":
        description |= {"classes": None, "train_points": [], "stages": len(teacher.heads)}
        description["standardised_over"] = tuning.standardise(teacher, view, images, device=device)
        card = frozen.model_card(description)
    else:
        sizes = tuning.trainable_parameters(teacher)
        print(
            f"{len(images)} images; trainable parameters: {sizes['encoder']:,} in adapters, {sizes['heads']:,} in heads"
        )
        if elite := tuning.elite_trains(settings.encoder):
            print(elite)
        tuning.tune(teacher, view, images, settings, run_folder, device=device)
        stages = tuning.agreement_at_points(teacher, view, images, device=device)
        for s, agreement in enumerate(stages):
            print(f"stage {s} at visible training points: {agreement}")
        description |= {
            "classes": images.classes.to_json(),
            "trainable_parameters": sizes,
            "elite_trains": tuning.ELITE_TRAINS.get(settings.encoder),
            "train_points": [{"accuracy": a.accuracy, "miou": a.miou, "iou": a.iou} for a in stages],
        }
        card = tuning.model_card(description)
    partial = args.out.with_name(args.out.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    storage.save(teacher.cpu(), partial, description)
    (partial / "README.md").write_text(card)
    shutil.rmtree(args.out, ignore_errors=True)
    os.rename(partial, args.out)
    shutil.rmtree(run_folder, ignore_errors=True)
    print(f"{args.out}: {'tuned teacher' if kind == 'stages' else 'frozen image encoder'}")


if __name__ == "__main__":
    run(main)
