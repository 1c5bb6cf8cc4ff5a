"""Label your own LiDAR scans with a trained student. You need only the student's folder.

    python -m elite_pipeline.stages.predict_scans --model models/demo scan.bin more/*.bin folder/ --out labels/

A scan is a .bin file of float32 x, y, z (metres; x forward, y left, z up) and remission, point after point. Its label
file has one uint32 per point, in the same order: the raw ids of the student's class table. Label files go under --out,
which is created if it is missing:

    scan.bin                      becomes  scan.label
    folder/, with run/scan.bin    becomes  run/scan.label, for every .bin file in the folder or below
    08/, with velodyne/scan.bin   becomes  sequences/08/predictions/scan.label, the layout of the official evaluation

A student of nuScenes reads nuScenes' scans instead: .pcd.bin files of float32 x, y, z, intensity and ring, with the
sensor's axes. From scan.pcd.bin it makes scan_lidarseg.bin: one uint8 per point, the class 1 to 16 of the challenge.

With --data and --frames in place of scans, it labels recorded sequences, and --out is the folder that the official
tools of their format read. Existing label files of these names are replaced. To do the same in Python, with numpy as np
and `Predictor` from elite_pipeline.student.model:

    predict = Predictor.load("models/demo")
    points = np.fromfile("scan.bin", np.float32).reshape(-1, 4)
    predict.classes.to_raw(predict(points)).tofile("scan.label")
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from elite_pipeline.errors import InputError, run
from elite_pipeline.stages import STORES

if TYPE_CHECKING:
    from elite_pipeline.student.model import Predictor


def main(argv: list[str] | None = None) -> None:
    """Parse, read, predict, write."""
    stage = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    stage.add_argument("scans", type=Path, nargs="*", help="files or folders of scans")
    stage.add_argument("--model", type=Path, required=True, help="folder of the student, models/<experiment>")
    stage.add_argument("--out", type=Path, required=True, help="folder to write the label files to")
    stage.add_argument("--device", help="cpu, cuda, cuda:1, ... (default: a GPU if there is one, else the CPU)")
    stage.add_argument("--data", type=Path, help="data/<dataset>, the folder of recorded sequences")
    stage.add_argument("--frames", type=Path, nargs="+", help=f"each recorded sequence's {STORES['frames']}")
    args = stage.parse_intermixed_args(argv)
    if bool(args.scans) == bool(args.frames) or bool(args.frames) != bool(args.data):
        stage.error("give either scans, or --data and --frames")

    import torch

    from elite_pipeline.student.model import Predictor

    try:
        torch.empty(0, device=args.device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"--device {args.device}: {reason}. Use --device cpu, or omit --device.") from None
    predict = Predictor.load(args.model, args.device)
    if args.frames:
        scans, labelled = recorded(predict, args.model, args.data, args.frames, args.out)
    else:
        scans, labelled = own(predict, args.scans, args.out)
    print(f"{args.out}: {scans} label files, {labelled} points")


def own(predict: Predictor, given: list[Path], out: Path) -> tuple[int, int]:
    """Label the user's files. Returns the numbers of scans and points."""
    from elite_pipeline.deploy.formats import label_files_of
    from elite_pipeline.deploy.predict import label_paths
    from elite_pipeline.deploy.submission import write_labels
    from elite_pipeline.progress import progress

    files = label_files_of(predict.scan_format)
    scans = label_paths(given, out, files)
    labelled = 0
    for path, scan in progress(scans.items(), label="predict_scans", unit="scan"):
        points = files.read_scan(scan, predict.classes)
        write_labels(path, files.encode(predict(points), predict.classes))
        labelled += len(points)
    return len(scans), labelled


def recorded(predict: Predictor, model: Path, data: Path, frames: list[Path], out: Path) -> tuple[int, int]:
    """Label every scan of recorded sequences. Returns the numbers of scans and points."""
    from elite_pipeline.deploy.predict import predicted, recorded_layout
    from elite_pipeline.deploy.submission import write_folder
    from elite_pipeline.recordings.sequence import open_recorded

    recordings = open_recorded(data, frames)
    layout = recorded_layout(predict, recordings, model, frames)
    write_folder(out, layout, predicted(predict, recordings, layout, "predict_scans"))
    return len(layout.names), int(sum(sequence.index.points.sum() for sequence in recordings))


if __name__ == "__main__":
    run(main)
