"""How near a student's 3D features lie to its image teacher's 2D ones, before and after the domain-adaptation module.

A row is an image patch that points hit: the teacher's feature of it, and the mean over these points of the student's.
Rows have length 1, since training compares them by cosine.
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
"""Scans that rows are gathered from, spread evenly over the labelled ones: more than enough rows, soon read."""

FOLDS = 5
"""Of the cross-validation in `separability`."""

SIDES = ("before", "after")
"""Of the module."""


@dataclass(frozen=True)
class Patches:
    """R patches. Rows of features have length 1."""

    image: np.ndarray
    """(R, D) float32: the teacher's features."""
    before: np.ndarray
    """(R, D) float32: the student's, as its classifier would see them if the module were left out."""
    after: np.ndarray
    """(R, D) float32: the student's, as its classifier sees them."""
    classes: np.ndarray
    """(R,) int64 training ids: the class of most of a patch's points, never `IGNORE`."""
    scan: np.ndarray
    """(R,) int64: number of the scan."""

    def __len__(self) -> int:
        return len(self.classes)

    def __getitem__(self, rows: np.ndarray) -> "Patches":
        """The patches of some rows: their indices, or (R,) bool."""
        return Patches(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})


def gather(predictor: Predictor, recordings: Sequence[Recorded], stage: int) -> Patches:
    """The patches of up to `SCANS` labelled scans of `recordings`, which have patch features.

    predictor: of a student with an adaptation module. stage: whose feature of the teacher. A patch that two cameras'
    points hit is two; one whose points are mostly unlabelled is left out. Nothing learns from the labels. Raises
    `InputError` where a scan or a store is damaged.
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
    # The normalisation that follows the module stays, so that the module alone makes the difference.
    before = functional.layer_norm(output.embedding, output.embedding.shape[1:])
    before, after = (mean(x.float().cpu()[voxel], of_point, len(patches)) for x in (before, output.features))
    return Patches(
        *(functional.normalize(x).numpy() for x in (answers.patches[patches, stage], before, after)),
        classes=majority(labels[answers.taught], of_point, len(patches), len(predictor.classes)).numpy(),
        scan=np.full(len(patches), number),
    )


def balanced(classes: np.ndarray, rows: int, seed: int) -> np.ndarray:
    """Indices of `rows` of `classes` (R,), fewer if there are not so many: as many of each class as it has, at most."""
    order = np.random.default_rng(seed).permutation(len(classes))
    turn = np.empty(len(classes), dtype=int)
    for k in np.unique(classes):
        members = order[classes[order] == k]
        turn[members] = np.arange(len(members))
    # The first of every class, then the second of those that have one, and so on.
    return np.sort(order[np.argsort(turn[order], kind="stable")][:rows])


def measure(patches: Patches) -> dict[str, dict[str, float]]:
    """{"cka", "separability", "nearest_same_class", "chance"} -> {"before", "after"}, numbers in 0..1."""
    found: dict[str, dict[str, float]] = {name: {} for name in ("cka", "separability", "nearest_same_class", "chance")}
    for side in SIDES:
        points = getattr(patches, side)
        found["cka"][side] = linear_cka(points, patches.image)
        found["separability"][side] = separability(points, patches.image)
        share, chance = nearest_same_class(points, patches.image, patches.classes, patches.scan)
        found["nearest_same_class"][side], found["chance"][side] = share, chance
    return found


def linear_cka(x: np.ndarray, y: np.ndarray) -> float:
    """Linear centred kernel alignment of `x` (n, p) and `y` (n, q), whose rows belong together: 0..1.

    |Y'X|^2 / (|X'X| |Y'Y|) in Frobenius norms, X and Y centred (Kornblith et al. 2019, section 3): 1 where one is the
    other, turned, mirrored, scaled and moved; 0 where either is constant.
    """
    x, y = (rows.astype(np.float64) - rows.mean(axis=0, dtype=np.float64) for rows in (x, y))
    alike, own, other = (np.linalg.norm(product) for product in (y.T @ x, x.T @ x, y.T @ y))
    return float(alike**2 / max(own * other, np.finfo(float).tiny))


def separability(x: np.ndarray, y: np.ndarray) -> float:
    """Accuracy, cross-validated, at which a linear classifier tells rows of `x` (n, D) from those of `y` (n, D).

    0.5: it cannot; 1: the two lie apart. Rows of the same number (patch) are in the same fold, and a fold's features
    are standardised as the others' are.
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
    """(share, chance): of rows of `points` (n, D) whose nearest of `image` (n, D) in another scan has their class.

    Nearest by cosine; all rows have length 1. classes, scan: (n,), of both, with two scans at least. Chance is the
    share if the same neighbours were dealt out at random, as in Cohen's kappa: where all rows meet in one place, both
    are the same.
    """
    similarity = points @ image.T  # (n, n)
    similarity[scan[:, None] == scan] = -np.inf
    found = classes[similarity.argmax(axis=1)]
    share = (found == classes).mean()
    most = 1 + max(found.max(), classes.max())
    chance = np.bincount(found, minlength=most) @ np.bincount(classes, minlength=most) / len(found) ** 2
    return float(share), float(chance)


def plane(patches: Patches, perplexity: float, seed: int) -> np.ndarray:
    """(3, R, 2) float32: image, before and after in one t-SNE, so that places may be compared."""
    from sklearn.manifold import TSNE

    rows = np.concatenate([patches.image, patches.before, patches.after])
    places = TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(rows)
    return places.reshape(3, len(patches), 2)


def table(result: Mapping[str, Any]) -> str:
    """A Markdown table of `result` (the JSON of plot_embedding)."""
    form = {"cka": "{:.3f}", "separability": "{:.1%}", "nearest_same_class": "{:.1%}", "chance": "{:.1%}"}
    names = {
        "cka": "linear CKA with the image features",
        "separability": "a linear classifier tells 3D from 2D",
        "nearest_same_class": "the nearest 2D feature has the same class",
        "chance": "the same, with these neighbours at random",
    }
    rows = [
        f"| {names[key]} | " + " | ".join(form[key].format(result[key][side]) for side in SIDES) + " |" for key in form
    ]
    classes = ", ".join(f"{name} {rows:,}" for name, rows in result["classes"].items())
    return f"""# {result["experiment"]}: 3D features before and after the domain-adaptation module

{result["rows"]:,} image patches of {result["scans"]} labelled scans, as evenly over the classes as these allow: the
teacher's feature (stage {result["stage"]}) beside the mean of the student's at the points in the patch.

| | before | after |
|---|---:|---:|
{chr(10).join(rows)}

CKA is 1 where the two are the same but for turning, scaling and moving. 50 % means that the classifier cannot tell;
it is cross-validated, a patch's rows in one fold. The nearest feature is by cosine, among patches of other scans.
Labels choose the rows and score the neighbours; nothing learns from them.

Patches of each class: {classes}.
"""
