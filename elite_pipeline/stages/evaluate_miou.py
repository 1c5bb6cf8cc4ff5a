"""Score a student by its data set's official protocol: whole scans, every labelled point, a single pass.

`miou` is the mean IoU over all classes, `accuracy` the share of the points that is predicted right. `absent`: whether
an absent class counts as zero (SemanticKITTI), or is left out of the mean, with IoU null (nuScenes). `miou_frequent`
leaves out the three rarest classes. `miou_seen` and `miou_unseen` are of the points that the cameras see in their frame
(as in project_points, with a z-buffer) and of the others, both over the classes that have points in both groups; null
without images or calibration. `places`: confusion matrix of each sequence. `miou_known` is the mean over the classes
that the student can know: without labels, those of its teacher.
split="test": test sequences, by which nothing was chosen. votes=12: the sum of the logits of 12 augmented passes.
coarse="semantickitti_to_nuscenes" scores a student on drives of another class table, on classes that both have.
Writes --out (JSON), and a table of the classes to the same name with .md.
"""

from pathlib import Path

from elite_pipeline.config import Oracle, ProjectPoints
from elite_pipeline.config.experiments import Split
from elite_pipeline.config.validation import Section
from elite_pipeline.config.values import Count, Name, Natural
from elite_pipeline.errors import InputError, run
from elite_pipeline.stages import add_sequences, parse, parser


class ExperimentToEvaluate(Section):
    """The settings of this stage.

    split: the split that the sequences are of. project_points: when a camera sees a point; None: no scores of seen and
    unseen points. labels_seed: the seed that drew the labelled drives; None where none are drawn.
    teacher: name of the experiment's teacher, if any. oracle: settings of the teacher if it is an oracle. votes: number
    of passes with test-time augmentation; None: a single pass without it. coarse: table of coarse classes, if any.
    """

    split: Split = "val"
    project_points: ProjectPoints | None = None
    labels_seed: Natural | None = None
    teacher: Name | None = None
    oracle: Oracle | None = None
    votes: Count | None = None
    coarse: str | None = None


def main(argv: list[str] | None = None) -> None:
    """Parse, read, predict, count, write."""
    stage = parser(__doc__)
    stage.add_argument("--experiment", required=True)
    stage.add_argument("--dataset", required=True)
    stage.add_argument("--model", type=Path, required=True, help="folder of the trained student")
    add_sequences(stage, "frames")
    stage.add_argument("--out", type=Path, required=True, help="results/<experiment>_miou.json, or ..._miou_test.json")
    arguments, settings = parse(stage, ExperimentToEvaluate, argv)

    import time
    from dataclasses import replace

    from elite_pipeline import provenance
    from elite_pipeline.datasets.coarse_classes import coarse_classes
    from elite_pipeline.evaluation import metrics, tta
    from elite_pipeline.evaluation.whole_scans import count, scores
    from elite_pipeline.recordings.sequence import open_recorded
    from elite_pipeline.results import write
    from elite_pipeline.student.model import Predictor, weights_sha256
    from elite_pipeline.student.network import parameters

    began, predict = time.perf_counter(), Predictor.load(arguments.model)
    trained = predict.config
    recordings = open_recorded(arguments.data, arguments.frames)
    if not any(recorded.index.labelled.any() for recorded in recordings):
        raise InputError(f"no scan of {', '.join(map(str, arguments.frames))} has labels: give sequences with labels")
    known, coarse = trained["known_classes"], coarse_classes(settings.coarse) if settings.coarse else None
    if coarse:
        classes, known = coarse.classes, coarse.known(predict.classes, known, arguments.model)
    else:
        for path, recorded in zip(arguments.frames, recordings, strict=True):
            predict.classes.check_same(recorded.index.classes, arguments.model, path)
        classes = replace(predict.classes, absent=recordings[0].index.classes.absent)
    counted = count(predict, recordings, settings.project_points, settings.votes, coarse)
    result = {
        "experiment": arguments.experiment,
        "dataset": arguments.dataset,
        "labels_seed": settings.labels_seed,
        "split": settings.split,
        "sequences": [recorded.index.sequence for recorded in recordings],
        "coarse": settings.coarse,
        **scores(counted, classes, known),
        "tta": settings.votes is not None,
        "votes": settings.votes or 1,
        "trained_on": trained["trained_on"],
        "training_scans": trained["training_scans"],
        "labelled_scans": trained["labelled_scans"],
        "labelled_classes": trained["labelled_classes"],
        "taught": trained["taught"],
        "teacher": settings.teacher,
        "oracle": settings.oracle and settings.oracle.model_dump(mode="json"),
        "zero_shot": trained["labelled_scans"] == 0 and trained["taught"],
        "pretrained": trained["pretrained"],
        "steps": trained["steps"],
        "presentations": trained.get("presentations"),
        "weights_sha256": weights_sha256(arguments.model),
        "parameters": parameters(predict.student),
        "config": trained["settings"],
        "versions": provenance.versions(),
        "device": provenance.device_name(),
        "commit": provenance.commit(),
        "seconds": round(time.perf_counter() - began, 2),
    }
    write(arguments.out, result, tta.table(result) if settings.votes else metrics.table(result))


if __name__ == "__main__":
    run(main)
