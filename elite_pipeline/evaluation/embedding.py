"""Compare a student's 3D features with its image teacher's 2D features, before and after the domain-adaptation module.

A row is an image patch with projected points: the teacher's feature of the patch, and the mean of the student's
features at these points. Rows are normalised to length 1, since training compares them by cosine.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from elite_pipeline.datasets.classes import IGNORE
from elite_pipeline.grouping import majority, mean
from elite_pipeline.progress import progress
from elite_pipeline.recordings.sequence import Recorded
from elite_pipeline.student.model import Predictor

SCANS = 64
"""Number of scans to gather rows from, spread evenly over the labelled scans: enough rows, and quick to read."""

FOLDS = 5
"""Number of folds of the cross-validation in `separability`."""

SIDES = ("before", "after")
"""Before and after the module."""


@dataclass(frozen=True)
class Patches:
    """R patches. Each row of features has length 1."""

    image: np.ndarray
    """(R, D) float32: the teacher's features."""
    before: np.ndarray
    """(R, D) float32: the student's features as its classifier would see them without the module."""
    after: np.ndarray
    """(R, D) float32: the student's features as its classifier sees them."""
    classes: np.ndarray
    """(R,) int64 training ids: the most common class of a patch's points, never `IGNORE`."""
    scan: np.ndarray
    """(R,) int64: number of the patch's scan."""

    def __len__(self) -> int:
        return len(self.classes)

    def __getitem__(self, rows: np.ndarray) -> "Patches":
        """Return the patches of `rows`: indices, or (R,) bool."""
        return Patches(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})


def gather(predictor: Predictor, recordings: Sequence[Recorded], stage: int) -> Patches:
    """Return the patches of up to `SCANS` labelled scans of `recordings`, which have patch features.

    predictor: of a student with an adaptation module. stage: the teacher's stage to take features from. Each camera's
    image has its own patches. Patches whose points are mostly unlabelled are left out. Nothing learns from the labels.
    Raises `InputError` where a scan or a store is damaged.
    """
    scans = [(recorded, f) for recorded in recordings for f in np.flatnonzero(recorded.index.labelled)]
    spread = np.linspace(0, len(scans) - 1, min(SCANS, len(scans))).round().astype(int)
    chosen = enumerate(progress([scans[k] for k in spread], label="plot_embedding"))
    parts = [_of_scan(predictor, recorded, f, stage, number) for number, (recorded, f) in chosen]
    names = [field.name for field in fields(Patches)]
    whole = Patches(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})
    return whole[whole.classes != IGNORE]


@torch.inference_mode()
def _of_scan(predictor: Predictor, recorded: Recorded, f: int, stage: int, number: int) -> Patches:
    answers, labels = recorded.answers(f, features=True), torch.from_numpy(recorded.labels(f))
    pyramid = predictor.voxelise(recorded.points(f))
    output = predictor.student(pyramid)
    patches, of_point = answers.patch_of.unique(return_inverse=True)
    voxel = pyramid[predictor.student.finest].of_point.cpu()[answers.taught]
    # Keep the normalisation that follows the module, so that only the module makes a difference.
    before = functional.layer_norm(output.embedding, output.embedding.shape[1:])
    before, after = (mean(x.float().cpu()[voxel], of_point, len(patches)) for x in (before, output.features))
    return Patches(
        *(functional.normalize(x).numpy() for x in (answers.patches[patches, stage], before, after)),
        classes=majority(labels[answers.taught], of_point, len(patches), len(predictor.classes)).numpy(),
        scan=np.full(len(patches), number),
    )


def balanced(classes: np.ndarray, rows: int, seed: int) -> np.ndarray:
    """Return the sorted indices of at most `rows` entries of `classes` (R,), as evenly over the classes as possible."""
    order = np.random.default_rng(seed).permutation(len(classes))
    turn = np.empty(len(classes), dtype=int)
    for k in np.unique(classes):
        members = order[classes[order] == k]
        turn[members] = np.arange(len(members))
    # Take the first entry of every class, then the second of every class that has one, and so on.
    return np.sort(order[np.argsort(turn[order], kind="stable")][:rows])


def measure(patches: Patches) -> dict[str, dict[str, float]]:
    """Return {"cka", "separability", "nearest_same_class", "chance"} -> {"before", "after"} -> a number in 0..1."""
    found: dict[str, dict[str, float]] = {name: {} for name in ("cka", "separability", "nearest_same_class", "chance")}
    for side in SIDES:
        points = getattr(patches, side)
        found["cka"][side] = linear_cka(points, patches.image)
        found["separability"][side] = separability(points, patches.image)
        share, chance = nearest_same_class(points, patches.image, patches.classes, patches.scan)
        found["nearest_same_class"][side], found["chance"][side] = share, chance
    return found


def linear_cka(x: np.ndarray, y: np.ndarray) -> float:
    """Return the linear centred kernel alignment of `x` (n, p) and `y` (n, q), in 0..1.

    Row k of `x` and row k of `y` form a pair.
    |Y'X|^2 / (|X'X| |Y'Y|) in Frobenius norms, X and Y centred (Kornblith et al. 2019, section 3). The result is 1 if
    `x` and `y` are equal up to rotation, reflection, scale and translation. It is 0 if either is constant.
    """
    x, y = (rows.astype(np.float64) - rows.mean(axis=0, dtype=np.float64) for rows in (x, y))
    alike, own, other = (np.linalg.norm(product) for product in (y.T @ x, x.T @ x, y.T @ y))
    return float(alike**2 / max(own * other, np.finfo(float).tiny))


def separability(x: np.ndarray, y: np.ndarray) -> float:
    """Return the cross-validated accuracy of a linear classifier that separates `x` (n, D) from `y` (n, D).

    0.5: the classifier cannot separate them. 1: it separates them completely. Rows with the same number (patch) are in
    the same fold. A test fold is standardised with the statistics of the other folds.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GroupKFold, cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    modality, patch = np.repeat([0, 1], len(x)), np.tile(np.arange(len(x)), 2)
    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    scores = cross_val_score(classifier, np.concatenate([x, y]), modality, groups=patch, cv=GroupKFold(FOLDS))
    return float(scores.mean())


def nearest_same_class(
    points: np.ndarray, image: np.ndarray, classes: np.ndarray, scan: np.ndarray
) -> tuple[float, float]:
    """Return (share, chance): how often the nearest row of `image` in another scan has the class of a row of `points`.

    points, image: (n, D), rows of length 1; the nearest row is the one with the largest cosine. classes, scan: (n,),
    for both; at least two scans. Chance is the share with the same neighbours assigned at random, as in Cohen's
    kappa. If all rows have the same neighbour, share and chance are equal.
    """
    similarity = points @ image.T  # (n, n)
    similarity[scan[:, None] == scan] = -np.inf
    found = classes[similarity.argmax(axis=1)]
    share = (found == classes).mean()
    most = 1 + max(found.max(), classes.max())
    chance = np.bincount(found, minlength=most) @ np.bincount(classes, minlength=most) / len(found) ** 2
    return float(share), float(chance)


def plane(patches: Patches, perplexity: float, seed: int) -> np.ndarray:
    """Return (3, R, 2) float32: image, before and after in one t-SNE, so that their positions are comparable."""
    from sklearn.manifold import TSNE

    rows = np.concatenate([patches.image, patches.before, patches.after])
    places = TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(rows)
    return places.reshape(3, len(patches), 2)


def table(result: Mapping[str, Any]) -> str:
    """Return a Markdown table of `result` (the JSON of plot_embedding)."""
    form = {"cka": "{:.3f}", "separability": "{:.1%}", "nearest_same_class": "{:.1%}", "chance": "{:.1%}"}
    names = {
        "cka": "linear CKA with the image features",
        "separability": "accuracy of a linear classifier that separates 3D from 2D",
        "nearest_same_class": "share of patches whose nearest 2D feature has the same class",
        "chance": "the same share with these neighbours assigned at random",
    }
    rows = [
        f"| {names[key]} | " + " | ".join(form[key].format(result[key][side]) for side in SIDES) + " |" for key in form
    ]
    classes = ", ".join(f"{name} {rows:,}" for name, rows in result["classes"].items())
    return f"""# {result["experiment"]}: 3D features before and after the domain-adaptation module

{result["rows"]:,} image patches of {result["scans"]} labelled scans, spread over the classes as evenly as possible. For
each patch, the teacher's feature (stage {result["stage"]}) is compared with the mean of the student's features at the
points in the patch.

| | before | after |
|---|---:|---:|
{chr(10).join(rows)}

CKA is 1 if the two sets of features are equal up to rotation, scale and translation. An accuracy of 50 % means that the
classifier cannot separate 3D from 2D; it is cross-validated, with both rows of a patch in the same fold. The nearest
feature is the one with the largest cosine among patches of other scans. Labels are used to choose the patches and to
score the neighbours. Nothing learns from them.

Patches of each class: {classes}.
"""
