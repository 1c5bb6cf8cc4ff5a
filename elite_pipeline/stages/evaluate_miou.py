"""Score a student by its data set's official protocol: whole scans, every labelled point, a single pass.

`miou` is the mean IoU over all classes, `accuracy` the share of the points that is predicted right. `absent`, from the
class table, says which protocol: SemanticKITTI's, where an absent class counts as zero, or nuScenes', where it is left
out of the mean and its IoU is null. `miou_frequent` leaves out the three rarest classes. `miou_seen` and `miou_unseen`
are of the points that the cameras see in their frame (as in project_points, with a z-buffer) and of the others, both
over the classes that have points in both groups; null without images or calibration. `places`: confusion matrix of each
sequence. `miou_known` is the mean over the classes that the student can know: without labels it knows only the classes
of its teacher, which may be fewer. It equals `miou` where the student knows all.
split="test" says that the sequences are test sequences, by which nothing was chosen. With votes=12 the score uses
test-time augmentation, the sum of the logits of 12 passes, and the result says so.
coarse="semantickitti_to_nuscenes" scores a student of one of two class tables on drives of the other, on the coarse
classes that this table gives both. That is no official score, and the result names the table.
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
    of passes with test-time augmentation; None: a single pass without it. coarse: table of coarse classes
    (`datasets/coarse_classes.py`); None: the student and the drives have the same classes.
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
    from elite_pipeline.datasets.classes import IGNORE
    from elite_pipeline.datasets.coarse_classes import coarse_classes
    from elite_pipeline.evaluation import metrics, tta
    from elite_pipeline.evaluation.whole_scans import count, scores
    from elite_pipeline.recordings.sequence import open_recorded
    from elite_pipeline.results import write
    from elite_pipeline.student.model import Predictor, weights_sha256
    from elite_pipeline.student.network import parameters

    began = time.perf_counter()
    predict = Predictor.load(arguments.model)
    trained = predict.config
    recordings = open_recorded(arguments.data, arguments.frames)
    if not any(recorded.index.labelled.any() for recorded in recordings):
        raise InputError(f"no scan of {', '.join(map(str, arguments.frames))} has labels: give sequences with labels")
    coarse = coarse_classes(settings.coarse) if settings.coarse else None
    if coarse:
        classes, of_student = coarse.classes, coarse.of(predict.classes, arguments.model)
        ids = {int(k) for k in of_student[predict.classes.known(trained["known_classes"])]}
        known = [name for k, name in enumerate(classes.names) if k in ids - {IGNORE}]
    else:
        for path, recorded in zip(arguments.frames, recordings, strict=True):
            predict.classes.check_same(recorded.index.classes, arguments.model, path)
        known = trained["known_classes"]
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
