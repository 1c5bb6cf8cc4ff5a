"""Pre-train a student's backbone on unlabelled scans: InfoNCE against a frozen image encoder's cached features (UDAKD).

After an interruption, run the stage again: it resumes from the last checkpoint in --run and ends with the same weights,
bit for bit on a CPU. All lists must name the sequences in the same order. Writes backbone.safetensors,
module.safetensors, config.json and training.jsonl to --out.
"""

from pathlib import Path

from elite_pipeline.errors import run
from elite_pipeline.stages import add_sequences, parse, parser


def main(argv: list[str] | None = None) -> None:
    """Parse, read, train, write."""
    from elite_pipeline.config import StudentToPretrain

    stage = parser(__doc__)
    add_sequences(stage, "frames", "projection", "targets", optional=("superpixels",))
    stage.add_argument("--run", type=Path, required=True, help="folder of resumable checkpoints")
    stage.add_argument("--out", type=Path, required=True, help="folder to write, cache/pretrained/<pretraining>")
    arguments, settings = parse(stage, StudentToPretrain, argv)

    import os
    import shutil
    import time

    from elite_pipeline import provenance
    from elite_pipeline.errors import InputError
    from elite_pipeline.recordings.sequence import open_recorded
    from elite_pipeline.student.network import parameters
    from elite_pipeline.training import contrast
    from elite_pipeline.training.examples import Examples
    from elite_pipeline.training.loop import train

    began = time.perf_counter()
    level = settings.contrast.level
    if (level == "superpixel") != bool(arguments.superpixels):
        raise InputError(f"contrast.level is {level}: give --superpixels if the level is superpixel, and only then")
    files = (arguments.data, arguments.frames, arguments.projection, arguments.targets, arguments.superpixels)
    examples = Examples(open_recorded(*files, labels=False), features=True)
    task = contrast.Contrasting(examples, settings)
    trained = train(task, arguments.run)
    if not trained.writes:
        return
    config = {
        "pretraining": arguments.out.name,
        "network": settings.network.model_dump(mode="json"),
        "trained_on": [recorded.index.sequence for recorded in examples.sequences],
        "scans": len(examples),
        "parameters": parameters(task.learner.student.get_submodule("backbone")),
        "steps": trained.steps,
        "processes": trained.processes,
        "seconds": round(time.perf_counter() - began, 1),
        **provenance.provenance(settings, *examples.files),
        "device": provenance.device_name(),
        "commit": provenance.commit(),
    }
    partial = arguments.out.with_name(arguments.out.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    contrast.save(partial, task.learner, config, trained.log)
    shutil.rmtree(arguments.out, ignore_errors=True)
    os.rename(partial, arguments.out)
    shutil.rmtree(trained.log.parent)


if __name__ == "__main__":
    run(main)
