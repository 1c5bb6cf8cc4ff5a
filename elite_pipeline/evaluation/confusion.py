"""How well labels agree with a reference: coverage, accuracy, mean IoU."""

import numpy as np

from elite_pipeline.datasets.semantickitti import CLASSES, IGNORE


class Agreement:
    """Sums up (reference, label) pairs, frame by frame; pixels or points alike."""

    def __init__(self):
        self.confusion = np.zeros((len(CLASSES), len(CLASSES)), dtype=np.int64)
        """Rows: reference. Columns: label. Training ids; what the reference ignores is left out."""

    def add(self, reference, label):
        """Count two integer arrays of training ids of one shape."""
        known = reference != IGNORE
        pairs = reference[known].astype(np.int64) * len(CLASSES) + label[known]
        self.confusion += np.bincount(pairs.ravel(), minlength=self.confusion.size).reshape(self.confusion.shape)

    @property
    def coverage(self):
        """Share of the reference that has any label."""
        return _ratio(self.confusion[:, IGNORE + 1 :].sum(), self.confusion.sum())

    @property
    def accuracy(self):
        """Share of the covered reference whose label is right."""
        return _ratio(np.trace(self.confusion), self.confusion[:, IGNORE + 1 :].sum())

    @property
    def iou(self):
        """Class name -> IoU over what is covered, of the classes that occur there in the reference."""
        return self._iou(self.confusion[:, IGNORE + 1 :])

    @property
    def miou(self):
        """Mean of `iou`."""
        return float(np.mean(list(self.iou.values()))) if self.iou else float("nan")

    @property
    def miou_of_all(self):
        """Mean IoU where what is not covered counts as wrong, of the classes that occur in the reference."""
        return float(np.mean(list(self._iou(self.confusion).values()))) if self.confusion.any() else float("nan")

    def _iou(self, confusion):
        true, given, right = confusion.sum(1)[1:], self.confusion.sum(0)[1:], np.diag(self.confusion)[1:]
        return {CLASSES[k + 1]: float(right[k] / (true[k] + given[k] - right[k])) for k in np.flatnonzero(true)}

    def __str__(self):
        return f"coverage {self.coverage:.3f}, accuracy {self.accuracy:.3f}, mIoU {self.miou:.3f}"


def _ratio(part, whole):
    return float(part / whole) if whole else float("nan")
