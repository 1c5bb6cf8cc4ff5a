"""Cache a teacher's targets for one sequence: soft labels of every projected point, and features of image patches.

Soft labels are the mean over the passes in `cache_teacher.views`. If the teacher is an image segmentation network, also
cache the classifier that a student may reuse.
"""

from pathlib import Path
from typing import Any

from elite_pipeline.config import TeacherToCache
from elite_pipeline.errors import run
from elite_pipeline.stages import add_sequence, parse, parser


def main(argv: list[str] | None = None) -> None:
    """Parse, read, run the teacher, write."""
    stage = parser(__doc__)
    add_sequence(stage, "frames", "projection")
    stage.add_argument("--adapter", type=Path, required=True, help="from tune_teacher or tune_image_teacher")
    stage.add_argument("--out", type=Path, required=True, help="targets store to write")
    args, settings = parse(stage, TeacherToCache, argv)

    import numpy as np
    import torch

    from elite_pipeline import store
    from elite_pipeline.evaluation.confusion import Confusion
    from elite_pipeline.provenance import provenance
    from elite_pipeline.recordings import index
    from elite_pipeline.resume import origin
    from elite_pipeline.soft_labels import class_mass, encode, named, predicted_class
    from elite_pipeline.teacher import storage, targets

    device = "cuda" if torch.cuda.is_available() else "cpu"
    frames = index.read(args.frames)
    recording = frames.source.open(args.data)
    projection = store.Projection(args.projection)
    classes = frames.classes
    teacher, view = storage.load(args.adapter, settings, classes)
    teacher.to(device)
    channels, rule = teacher.feature_channels, settings.cache_teacher
    logits, features = "logits" in rule.targets, "features" in rule.targets
    wanted: dict[str, Any] = {"logits": logits, "features": features, "views": rule.views, "device": device}
    agreements = [Confusion(classes) for _ in channels] if logits else []
    classifier, known = targets.shared_classifier(teacher, classes)

    with store.create(
        args.out,
        "targets",
        sequence=recording.sequence,
        frames=frames.frames,
        provenance=provenance(settings, args.frames, args.projection, args.adapter / "teacher.json"),
        origin=origin("cache_teacher", network=settings, files=[args.adapter / "heads.safetensors"]),
        cameras=projection.cameras,
        classes=classes.to_json(),
        stages=len(channels),
        quantisation=targets.quantisation(teacher),
        **known,
    ) as out:
        arrays = {}
        if logits:
            width = 2 * named(len(classes))
            arrays["soft_label"] = out.rows("soft_label", (len(channels), width), np.uint8, compress=True)
        if features:
            arrays["patch_index"] = out.rows("patch_index", (), np.uint16)
            arrays["patch_feature"] = out.rows("patch_feature", (len(channels), max(channels)), np.int8)
            arrays["point_patch"] = out.rows("point_patch", (), np.uint16)
        patches = np.zeros(len(projection.offsets), dtype=np.int64)
        mass = np.zeros((len(channels), len(classes)))
        seen = [(f, c) for f in range(len(frames.frames)) for c in range(len(projection.cameras))]
        seen = [(f, c) for f, c in seen if projection.rows(f, c).start < projection.rows(f, c).stop]
        # Resume at a batch, not at an image: the other images of a batch may change the last bits of the result.
        batches = [seen[k : k + rule.batch] for k in range(0, len(seen), rule.batch)]
        out.keep(patches=patches, mass=mass, **{f"agreement_{s}": a.counts for s, a in enumerate(agreements)})
        for batch in out.steps(batches, label=f"cache_teacher {recording.sequence}", unit="batch"):
            images = [recording.image(frames.frames[f], projection.cameras[c]) for f, c in batch]
            pixels = [projection.read("pixel", projection.rows(f, c)) for f, c in batch]
            answers = targets.answer(teacher, view, images, pixels, **wanted)
            for (f, c), answer in zip(batch, answers, strict=True):
                if logits:
                    answer["soft_label"] = encode(torch.from_numpy(answer["logits"])).numpy()
                for name, rows in arrays.items():
                    rows.append(answer[name])
                patches[f * len(projection.cameras) + c + 1] = len(answer.get("patch_index", ()))
                if not logits:
                    continue
                visible = projection.read("visible", projection.rows(f, c))
                mass += class_mass(answer["logits"][visible])
                if frames.labelled[f]:
                    point = projection.read("point", projection.rows(f, c))[visible]
                    labels = recording.labels(frames.frames[f], int(frames.points[f]))[point]
                    for s, agreement in enumerate(agreements):
                        agreement.add(labels, predicted_class(answer["logits"][visible, s]))
        if logits:
            out.array("mass", mass)
        if features:
            out.array("patch_offsets", np.cumsum(patches))
            out.array("patch_scale", targets.patch_scale(channels))
        for name, values in classifier.items():
            out.array(name, values)
    print(f"{args.out}: {int(projection.offsets[-1])} points in {len(seen)} images")
    for s, agreement in enumerate(agreements):
        print(f"stage {s} at visible labelled points: {agreement}")


if __name__ == "__main__":
    run(main)
