"""The official SemanticKITTI score, as semantic-kitti-api's `np_ioueval` defines it.

Ground truth `IGNORE` is left out; a *prediction* of `IGNORE` is a miss. (2DPASS's and ELiTe's own metric forgives it,
and reads higher: on one scan 1.0000 where this one says 0.9551.) A class that is absent counts as 0, so that a score on
a few scans is no score on the benchmark. The confusion is summed over all scans first.
"""

import numpy as np

from elite_pipeline.datasets.semantickitti import IGNORE


def confusion(prediction, truth, classes):
    """(K, K) int64 counts of points: rows are predictions, columns the truth; both are (N,) ids below `classes`."""
    pairs = np.asarray(prediction).astype(np.int64) * classes + np.asarray(truth)
    return np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)


def class_iou(confusion):
    """(K,) float64 intersection over union of each class, in 0..1; 0 for an absent class."""
    counts = np.array(confusion, dtype=np.float64)
    counts[:, IGNORE] = 0
    correct = np.diag(counts)
    # The official tool's own guard against 0 / 0.
    return correct / (counts.sum(axis=0) + counts.sum(axis=1) - correct + 1e-15)


def mean_iou(confusion):
    """Mean of `class_iou` over all classes but `IGNORE`, present or not."""
    return float(np.delete(class_iou(confusion), IGNORE).mean())


def table(result):
    """A Markdown table of `result` (the JSON of evaluate_miou): IoU of each class, the official order, in percent."""
    truth = np.array(result["confusion"]).sum(axis=0)[1:]
    rows = [
        f"| {name} | {100 * value:.1f} | {points:,} |"
        for (name, value), points in zip(result["iou"].items(), truth, strict=True)
    ]
    return f"""# {result["experiment"]}: {100 * result["miou"]:.1f} % mIoU

Sequences {", ".join(result["sequences"])} of {result["dataset"]} ({result["split"]}), {result["scans"]} whole scans,
{result["points"]:,} points, {truth.sum():,} of them evaluated.
Official SemanticKITTI protocol, single pass; a class without points has 0.
Student of {result["parameters"]:,} parameters, trained on sequences {", ".join(result["trained_on"])}
({result["labelled_scans"]} labelled scans).

| class | IoU, % | points |
|---|---:|---:|
{chr(10).join(rows)}
| **mean of {len(rows)}** | **{100 * result["miou"]:.1f}** | {truth.sum():,} |
"""
