"""Score a teacher's soft labels on all training scans that have labels: those of one frame, and the aggregated ones.

There are two groups of scans: those whose labels students use, and the others, whose labels are read only here, to
evaluate the teacher. `all`, `labelled` and `unlabelled` score each stage at the points that are visible and labelled; a
point that two cameras see counts twice. `targets` and `aggregated` score whole scans: how many points have a soft
label, and how good they are, over all points, those that a camera sees in that frame (`own`), the others (`unseen`),
and those of things that move. They cover the unlabelled scans, or all scans if students use all labels. Class 0 is
never predicted. Teachers and oracles are scored in the same way. Writes --out (JSON) and the same name with .md.
"""

from pathlib import Path

from elite_pipeline.config.validation import Section
from elite_pipeline.config.values import Natural
from elite_pipeline.errors import InputError, run
from elite_pipeline.stages import add_sequences, parse, parser


class TeacherToEvaluate(Section):
    """The settings of this stage. labels_seed: the seed that drew the labelled drives; None where none are drawn."""

    labels_seed: Natural | None = None


def main(argv: list[str] | None = None) -> None:
    """Parse, read, compare, write."""
    stage = parser(__doc__)
    stage.add_argument("--dataset", required=True)
    stage.add_argument("--teacher", required=True, help="name of the teacher or oracle")
    add_sequences(stage, "frames", "selected", "projection", "targets", optional=("aggregated",))
    stage.add_argument("--out", type=Path, required=True, help="results/<dataset>_<teacher>_points.json")
    args, settings = parse(stage, TeacherToEvaluate, argv)

    import torch

    from elite_pipeline import provenance, store
    from elite_pipeline.evaluation.teacher_quality import GROUPS, Quality, Reach, predictions, table
    from elite_pipeline.progress import progress
    from elite_pipeline.recordings import index
    from elite_pipeline.recordings.sequence import open_recorded
    from elite_pipeline.results import write

    sequences = open_recorded(args.data, args.frames, args.projection, args.targets, aggregated=args.aggregated or ())
    if len(args.selected) != len(args.frames):
        raise InputError(f"--selected names {len(args.selected)} files for {len(args.frames)} --frames: give one each")
    selected = [index.read(path) for path in args.selected]
    for path in args.targets:
        if "soft_label" not in store.open_store(path, "targets"):
            raise InputError(
                f"{path} holds no soft labels to score. Add logits to cache_teacher.targets of the teacher"
                f" {args.teacher}, if it was trained to predict classes"
            )
    for path, chosen, recorded in zip(args.selected, selected, sequences, strict=True):
        if chosen.frames != recorded.index.frames:
            raise InputError(f"{path} holds other frames than the sequence. Delete it and run snakemake again.")
    if len(stages := {recorded.stages for recorded in sequences}) > 1:
        raise InputError(
            f"{', '.join(map(str, args.targets))} differ in their number of stages, {stages}."
            " Delete them and run snakemake again."
        )
    scans = [
        (recorded, f, "labelled" if chosen.labelled[f] else "unlabelled")
        for recorded, chosen in zip(sequences, selected, strict=True)
        for f, known in enumerate(recorded.index.labelled)
        if known
    ]
    classes = sequences[0].index.classes
    found = {group: Quality(sequences[0].stages or 0, classes) for group in GROUPS}
    # The labels of these scans are the fairest judge: the teacher was not tuned on them.
    judged = "unlabelled" if any(group == "unlabelled" for _, _, group in scans) else "all"
    kinds = {"targets": Reach(classes), **({"aggregated": Reach(classes)} if args.aggregated else {})}
    for recorded, f, group in progress(scans, label=f"evaluate_teacher {args.teacher}"):
        answers, labels = recorded.answers(f), recorded.labels(f)
        at_points = torch.from_numpy(labels)[answers.taught]
        for quality in (found["all"], found[group]):
            quality.add(at_points, answers.teacher)
        if judged in ("all", group):
            predicted = predictions(recorded, f)
            moving = recorded.recording.moving(recorded.index.frames[f], len(labels))
            for name, reach in kinds.items():
                reach.add(labels, predicted[name], predicted["targets"] > 0, moving)
    summaries = {group: quality.summary() for group, quality in found.items()}
    if summaries["all"] is None:
        raise InputError(
            f"no visible point of {', '.join(map(str, args.frames))} has a label."
            " Add the labels of some training scans to score a teacher."
        )
    attributes = store.open_store(args.targets[0], "targets").attrs
    result = {
        "dataset": args.dataset,
        "labels_seed": settings.labels_seed,
        "teacher": args.teacher,
        "oracle": attributes.get("oracle"),
        "note": attributes.get("note"),
        "classes": classes.evaluated,
        "known_classes": attributes.get("known_classes", classes.evaluated),
        "split": "train",
        "sequences": [recorded.index.sequence for recorded in sequences],
        **summaries,
        "targets": kinds["targets"].summary(),
        "aggregated": kinds["aggregated"].summary() if args.aggregated else None,
        "reach_scans": judged,
        "versions": provenance.versions(),
        "commit": provenance.commit(),
    }
    write(args.out, result, table(result))


if __name__ == "__main__":
    run(main)
