"""Confusion matrices, and the scores that follow from them. Rows are the truth, columns the prediction."""

import numpy as np

from elite_pipeline.datasets.classes import IGNORE, ClassTable


class Confusion:
    """Counts pairs of true and predicted class of points or pixels, scan by scan or image by image."""

    def __init__(self, classes: ClassTable) -> None:
        self.classes = classes
        self.counts = np.zeros((len(classes), len(classes)), dtype=np.int64)
        """(K, K) int64: rows are the truth, columns the prediction, both training ids. Truth `IGNORE` is row 0."""

    def add(self, truth: np.ndarray, prediction: np.ndarray) -> None:
        """Add two integer arrays of training ids with the same shape."""
        pairs = np.asarray(truth).astype(np.int64) * len(self.classes) + prediction
        self.counts += np.bincount(pairs.ravel(), minlength=self.counts.size).reshape(self.counts.shape)

    @property
    def known(self) -> int:
        """Number of points or pixels that have a truth."""
        return int(self.counts[IGNORE + 1 :].sum())

    @property
    def coverage(self) -> float:
        """Share of the truth whose prediction is not `IGNORE`."""
        return _ratio(self.counts[IGNORE + 1 :, IGNORE + 1 :].sum(), self.known)

    @property
    def accuracy(self) -> float:
        """Share of the covered truth that is predicted correctly. Covered: the prediction is not `IGNORE`."""
        covered = self.counts[IGNORE + 1 :, IGNORE + 1 :]
        return _ratio(np.trace(covered), covered.sum())

    @property
    def iou(self) -> dict[str, float]:
        """Class name -> IoU over the covered truth, for the classes that occur in the covered truth."""
        return self._iou(self.counts[IGNORE + 1 :, IGNORE + 1 :])

    @property
    def miou(self) -> float:
        """Mean of `iou`. Unlike the official score (`metrics.mean_iou`), it leaves out classes that do not occur."""
        return float(np.mean(list(self.iou.values()))) if self.iou else float("nan")

    @property
    def miou_of_all(self) -> float:
        """Mean IoU over the classes that occur in the truth, where uncovered truth counts as wrong."""
        iou = self._iou(self.counts[IGNORE + 1 :])
        return float(np.mean(list(iou.values()))) if iou else float("nan")

    def _iou(self, counts: np.ndarray) -> dict[str, float]:
        known = self.counts[IGNORE + 1 :, IGNORE + 1 :]
        true, given, right = counts.sum(1), known.sum(0), np.diag(known)
        names = self.classes.evaluated
        return {names[k]: float(right[k] / (true[k] + given[k] - right[k])) for k in np.flatnonzero(true)}

    def __str__(self) -> str:
        return f"coverage {self.coverage:.3f}, accuracy {self.accuracy:.3f}, mIoU {self.miou:.3f}"


def _ratio(part: float, whole: float) -> float:
    return float(part / whole) if whole else float("nan")
