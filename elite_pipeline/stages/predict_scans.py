"""Label your own LiDAR scans with a trained student. You need only the student's folder.

    python -m elite_pipeline.stages.predict_scans --model models/demo scan.bin more/*.bin folder/ --out labels/

A scan is a .bin file of float32 x, y, z (metres; x forward, y left, z up) and remission, point after point. Its label
file has one uint32 per point, in the same order: the raw ids of the student's class table. Label files go under --out,
which is created if it is missing:

    scan.bin                      becomes  scan.label
    folder/, with run/scan.bin    becomes  run/scan.label, for every .bin file in the folder or below
    08/, with velodyne/scan.bin   becomes  sequences/08/predictions/scan.label, the layout of the official evaluation

Existing label files of these names are replaced. To do the same in Python, with numpy as np and `Predictor` from
elite_pipeline.student.model:

    predict = Predictor.load("models/demo")
    points = np.fromfile("scan.bin", np.float32).reshape(-1, 4)
    predict.classes.to_raw(predict(points)).tofile("scan.label")
"""

import argparse
from pathlib import Path

from elite_pipeline.errors import InputError, run


def main(argv: list[str] | None = None) -> None:
    """Parse, read, predict, write."""
    stage = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    stage.add_argument("scans", type=Path, nargs="+", help="files or folders of .bin scans")
    stage.add_argument("--model", type=Path, required=True, help="folder of the student, models/<experiment>")
    stage.add_argument("--out", type=Path, required=True, help="folder to write the label files to")
    stage.add_argument("--device", help="cpu, cuda, cuda:1, ... (default: a GPU if there is one, else the CPU)")
    args = stage.parse_intermixed_args(argv)

    from elite_pipeline.deploy.predict import read_scan
    from elite_pipeline.deploy.submission import label_files, write_labels

    scans = label_files(args.scans, args.out)

    import torch

    from elite_pipeline.progress import progress
    from elite_pipeline.student.model import Predictor

    try:
        torch.empty(0, device=args.device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"--device {args.device}: {reason}. Use --device cpu, or omit --device.") from None
    predict = Predictor.load(args.model, args.device)
    labelled = 0
    for path, scan in progress(scans.items(), label="predict_scans", unit="scan"):
        points = read_scan(scan)
        write_labels(path, predict.classes.to_raw(predict(points)))
        labelled += len(points)
    print(f"{args.out}: {len(scans)} label files, {labelled} points")


if __name__ == "__main__":
    run(main)
