"""Train a student on scans, their labels and the teacher's cached targets, without images and without the teacher.

After an interruption, run the stage again: it resumes from the last checkpoint in --run and ends with the same weights,
bit for bit on a CPU. All lists must name the sequences in the same order. Without --projection and --targets the stage
trains without a teacher. --aggregated goes with losses.targets=aggregated, and --carried with a losses.carried above 0.
Writes student.safetensors, config.json and training.jsonl to --out.
"""

from pathlib import Path

from elite_pipeline.errors import InputError, run
from elite_pipeline.stages import add_sequences, parse, parser


def main(argv: list[str] | None = None) -> None:
    """Parse, read, train, write."""
    from elite_pipeline.config import StudentSettings

    stage = parser(__doc__)
    add_sequences(stage, "frames", optional=("projection", "targets", "aggregated", "carried"))
    stage.add_argument(
        "--calibration", type=Path, nargs="?", help="temperatures of soft labels, from calibrate_targets"
    )
    stage.add_argument("--pretrained", type=Path, nargs="?", help="pre-trained backbone: cache/pretrained/<name>")
    stage.add_argument("--run", type=Path, required=True, help="folder of resumable checkpoints")
    stage.add_argument("--out", type=Path, required=True, help="folder to write, models/<experiment>")
    arguments, settings = parse(stage, StudentSettings, argv)

    import json
    import shutil
    import time

    from elite_pipeline import provenance
    from elite_pipeline.recordings.sequence import open_recorded
    from elite_pipeline.student.model import BACKBONE, save
    from elite_pipeline.student.network import parameters
    from elite_pipeline.training.examples import Examples
    from elite_pipeline.training.loop import train
    from elite_pipeline.training.presentations import labelled_presentations
    from elite_pipeline.training.segmentation import Segmentation

    began = time.perf_counter()
    losses = settings.losses
    if bool(arguments.aggregated) != (losses.targets == "aggregated" and bool(arguments.targets)):
        raise InputError(
            f"losses.targets is {losses.targets}: give --aggregated with --targets if it is aggregated, and only then"
        )
    if bool(arguments.carried) != (losses.carried > 0):
        raise InputError(f"losses.carried is {losses.carried}: give --carried if it is above 0, and only then")
    if bool(arguments.calibration) != (losses.calibrated and bool(arguments.targets)):
        raise InputError(
            f"losses.calibrated is {json.dumps(losses.calibrated)}: give --calibration with --targets if it is"
            " true, and only then"
        )
    stores = {name: getattr(arguments, name) for name in ("projection", "targets", "aggregated", "carried")}
    examples = Examples(
        open_recorded(arguments.data, arguments.frames, **stores, calibration=arguments.calibration),
        features=losses.features > 0,
        own_frame=losses.own_frame,
        unlabelled=settings.train_student.unlabelled > 0,
    )
    task = Segmentation(examples, settings, arguments.pretrained)
    pretrained = [arguments.pretrained / BACKBONE] if arguments.pretrained else []
    trained = train(task, arguments.run)
    if not trained.writes:
        return
    counted = zip(examples.classes.evaluated, examples.label_counts().tolist()[1:], strict=True)
    config = {
        "experiment": arguments.out.name,
        "classes": examples.classes.to_json(),
        "scan_format": examples.sequences[0].index.source.format,
        "network": settings.network.model_dump(mode="json"),
        "trained_on": [recorded.index.sequence for recorded in examples.sequences],
        "scans": len(examples),
        "labelled_scans": len(examples.labelled),
        "labelled_classes": {name: count for name, count in counted if count},
        "training_scans": sum(len(recorded.index.frames) for recorded in examples.sequences),
        "known_classes": task.known_classes,
        "pretrained": arguments.pretrained.name if arguments.pretrained else None,
        "taught": bool(arguments.targets) and settings.losses.taught,
        "parameters": parameters(task.student),
        "steps": trained.steps,
        "presentations": labelled_presentations(examples, settings.train_student, trained.steps, trained.processes),
        "processes": trained.processes,
        "seconds": round(time.perf_counter() - began, 1),
        **provenance.provenance(settings, *examples.files, *pretrained),
        "device": provenance.device_name(),
        "commit": provenance.commit(),
    }
    save(arguments.out, task.student, config, trained.log)
    shutil.rmtree(trained.log.parent)


if __name__ == "__main__":
    run(main)
