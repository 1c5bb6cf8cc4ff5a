"""Confusion matrices and the shares that follow from them. Rows are the truth, columns the prediction."""

import numpy as np

from elite_pipeline.datasets.classes import IGNORE, ClassTable


class Confusion:
    """Sums up pairs of true and predicted class, scan by scan or image by image; points and pixels alike."""

    def __init__(self, classes: ClassTable) -> None:
        self.classes = classes
        self.counts = np.zeros((len(classes), len(classes)), dtype=np.int64)
        """(K, K): rows are the truth, columns the prediction, both training ids. A truth of `IGNORE` is in row 0."""

    def add(self, truth: np.ndarray, prediction: np.ndarray) -> None:
        """Count two integer arrays of training ids of one shape."""
        pairs = np.asarray(truth).astype(np.int64) * len(self.classes) + prediction
        self.counts += np.bincount(pairs.ravel(), minlength=self.counts.size).reshape(self.counts.shape)

    @property
    def known(self) -> int:
        """How many had a truth."""
        return int(self.counts[IGNORE + 1 :].sum())

    @property
    def coverage(self) -> float:
        """Share of the truth that has any prediction but `IGNORE`."""
        return _ratio(self.counts[IGNORE + 1 :, IGNORE + 1 :].sum(), self.known)

    @property
    def accuracy(self) -> float:
        """Share of the covered truth that is predicted rightly."""
        covered = self.counts[IGNORE + 1 :, IGNORE + 1 :]
        return _ratio(np.trace(covered), covered.sum())

    @property
    def iou(self) -> dict[str, float]:
        """Class name -> IoU over what is covered, of the classes that occur there in the truth."""
        return self._iou(self.counts[IGNORE + 1 :, IGNORE + 1 :])

    @property
    def miou(self) -> float:
        """Mean of `iou`: over the classes that occur, unlike the official score (`metrics.mean_iou`)."""
        return float(np.mean(list(self.iou.values()))) if self.iou else float("nan")

    @property
    def miou_of_all(self) -> float:
        """Mean IoU where what is not covered counts as wrong, of the classes that occur in the truth."""
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
