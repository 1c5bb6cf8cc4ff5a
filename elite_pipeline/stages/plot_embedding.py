"""Measure whether a student's domain-adaptation module brings 3D features closer to the image teacher's 2D features.

A row is an image patch of a labelled scan. Labels are used to choose and score the rows; nothing learns from them.
Writes --out (JSON), a table to the same name with .md, and to the same name with .png one t-SNE of three sets of
features: 2D, 3D before the module and 3D after the module.
"""

from pathlib import Path

from elite_pipeline.errors import InputError, run
from elite_pipeline.stages import add_sequences, parse, parser

ROWS = 100
"""Least number of patches for a meaningful result."""


def main(argv: list[str] | None = None) -> None:
    """Parse, read, measure, draw, write."""
    from elite_pipeline.config import PlotEmbedding

    stage = parser(__doc__)
    stage.add_argument("--experiment", required=True)
    stage.add_argument("--model", type=Path, required=True, help="models/<experiment>")
    add_sequences(stage, "frames", "projection", "targets")
    stage.add_argument("--out", type=Path, required=True, help="results/<experiment>_embedding.json")
    arguments, settings = parse(stage, PlotEmbedding, argv)

    import numpy as np

    from elite_pipeline import provenance
    from elite_pipeline.evaluation import embedding
    from elite_pipeline.figures.embedding import plot_embedding
    from elite_pipeline.recordings.sequence import open_recorded
    from elite_pipeline.results import write
    from elite_pipeline.student.model import Predictor, read_config, weights_sha256

    trained = read_config(arguments.model)
    network = trained["network"]
    if network.get("adaptation") is None:
        raise InputError(
            f"{arguments.model}: this student has no domain-adaptation module. Add one with"
            " students.<name>.network.adaptation (and .embedding) in config.yaml, and train the student again."
        )
    recordings = open_recorded(arguments.data, arguments.frames, arguments.projection, arguments.targets)
    of_teacher = trained["settings"]["losses"]["stages"][-1]
    for path, recorded in zip(arguments.targets, recordings, strict=True):
        if not recorded.feature_channels:
            raise InputError(f"{path} holds no patch features: add features to cache_teacher.targets of this teacher")
        if recorded.feature_channels != network["embedding"] or of_teacher >= recorded.stages:
            raise InputError(
                f"{path}: {recorded.stages} stages of features of {recorded.feature_channels} channels, but"
                f" {arguments.model} learns stage {of_teacher} and has {network['embedding']} (network.embedding)."
                " Give the targets that this student was trained with."
            )
    if sum(recorded.index.labelled.sum() for recorded in recordings) < 2:
        raise InputError(
            f"{', '.join(map(str, arguments.frames))}: fewer than two scans are labelled, but features are compared"
            " across scans. Give an index with labels, such as that of the validation sequences."
        )
    predictor = Predictor.load(arguments.model)
    classes = predictor.classes
    classes.check_same(recordings[0].index.classes, arguments.model, arguments.frames[0])
    patches = embedding.gather(predictor, recordings, of_teacher)
    patches = patches[embedding.balanced(patches.classes, settings.points, settings.seed)]
    if len(patches) < ROWS or len(np.unique(patches.scan)) < 2 or settings.perplexity >= 3 * len(patches):
        raise InputError(
            f"{', '.join(map(str, arguments.frames))}: {len(patches)} patches with labels in"
            f" {len(np.unique(patches.scan))} scans. At least {ROWS} patches of two scans are needed, and more than a"
            f" third of plot_embedding.perplexity, which is {settings.perplexity:g}. Give more labelled scans with"
            " images, or a lower perplexity."
        )
    counts = np.bincount(patches.classes, minlength=len(classes))
    result = {
        "experiment": arguments.experiment,
        **embedding.measure(patches),
        "rows": len(patches),
        "scans": len(np.unique(patches.scan)),
        "stage": of_teacher,
        "sequences": [recorded.index.sequence for recorded in recordings],
        "classes": {name: int(rows) for name, rows in zip(classes.names, counts, strict=True) if rows},
        "weights_sha256": weights_sha256(arguments.model),
        "config": trained["settings"] | {"plot_embedding": settings.model_dump(mode="json")},
        "versions": provenance.versions(),
        "device": provenance.device_name(),
        "commit": provenance.commit(),
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    places = embedding.plane(patches, settings.perplexity, settings.seed)
    plot_embedding(arguments.out.with_suffix(".png"), result, places, patches.classes, classes)
    write(arguments.out, result, embedding.table(result))


if __name__ == "__main__":
    run(main)
