"""Score a student by the official SemanticKITTI protocol: whole scans, every point labelled, no test-time augmentation.

Writes --out (JSON) and the same name with .md: a table of the classes.
"""

from pathlib import Path

from elite_pipeline.errors import InputError, run
from elite_pipeline.stages import parse, parser
from elite_pipeline.validation import Section


def main(argv=None):
    """Parse, read, predict, count, write."""
    stage = parser(__doc__)
    stage.add_argument("--experiment", required=True)
    stage.add_argument("--dataset", required=True)
    stage.add_argument("--model", type=Path, required=True, help="folder of the trained student")
    stage.add_argument("--sequences", type=Path, nargs="+", required=True, help="sequence folders")
    stage.add_argument("--frames", type=Path, nargs="+", required=True, help="their indices (Parquet), in that order")
    stage.add_argument("--out", type=Path, required=True, help="results/<experiment>_miou.json")
    arguments, _ = parse(stage, Section, argv)

    import time

    import numpy as np

    from elite_pipeline import metrics, provenance
    from elite_pipeline.examples import open_recorded
    from elite_pipeline.progress import progress
    from elite_pipeline.results import write
    from elite_pipeline.student.model import Predictor, weights_sha256
    from elite_pipeline.student.spvcnn import parameters

    began = time.perf_counter()
    predict = Predictor.load(arguments.model)
    classes = predict.config["classes"]
    recordings = open_recorded(arguments.sequences, arguments.frames)
    scans = [(r, f) for r in recordings for f, labelled in enumerate(r.index.labelled) if labelled]
    if not scans:
        raise InputError(f"no scan of {', '.join(map(str, arguments.sequences))} has labels: there is nothing to score")
    confusion = np.zeros((len(classes), len(classes)), dtype=np.int64)
    for recorded, f in progress(scans, label="evaluate_miou"):  # pyright: ignore[reportGeneralTypeIssues]
        confusion += metrics.confusion(predict(recorded.points(f)), recorded.labels(f), len(classes))
    iou = dict(zip(classes[1:], metrics.class_iou(confusion)[1:].tolist(), strict=True))
    result = {
        "experiment": arguments.experiment,
        "dataset": arguments.dataset,
        "split": "val",
        "sequences": [folder.name for folder in arguments.sequences],
        "miou": metrics.mean_iou(confusion),
        "iou": iou,
        "confusion": confusion.tolist(),
        "points": int(confusion.sum()),
        "scans": len(scans),
        "tta": False,
        "trained_on": predict.config["trained_on"],
        "labelled_scans": predict.config["labelled_scans"],
        "weights_sha256": weights_sha256(arguments.model),
        "parameters": parameters(predict.student),
        "config": predict.config["settings"],
        "versions": provenance.versions(),
        "device": provenance.device_name(),
        "commit": provenance.commit(),
        "seconds": round(time.perf_counter() - began, 2),
    }
    write(arguments.out, result, metrics.table(result))


if __name__ == "__main__":
    run(main)
