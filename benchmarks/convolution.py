"""Time the CPU's sparse convolutions beside spconv's own, turn by turn: the layers of the paper's student.

    python benchmarks/convolution.py [scan.bin] [--out FILE]

Prints medians and ratios of one run, and writes `benchmarks/results/convolution_<device>.json`. Every result of ours
is compared with spconv's: the outputs and gradients must have the same bits.
"""

import argparse
import json
import os
import time
from pathlib import Path

import numpy as np
import spconv.core
import torch
from spconv import pytorch as reference
from spconv.pytorch import ops
from student import VOLUME, scan

from elite_pipeline.memory import keep_freed_memory
from elite_pipeline.provenance import commit, device_name, file_of_device, versions
from elite_pipeline.student.sparse import SubMConv3d, sparse_tensor
from elite_pipeline.student.voxels import Pyramid

WIDTH, TURNS = 64, 9
ROOT = Path(__file__).parent.parent


def main():
    keep_freed_memory()
    ops.get_current_stream = lambda: 0  # spconv asks for a CUDA stream in every backward pass
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, nargs="?", help="a .bin scan (default: 64 beams over a plane and walls)")
    parser.add_argument("--out", type=Path, help="default: benchmarks/results/convolution_<device>.json")
    args = parser.parse_args()
    points = np.fromfile(args.file, np.float32).reshape(-1, 4) if args.file else scan()
    strides = [1, 2, 4, 8]
    pyramid = Pyramid(torch.from_numpy(points), None, scans=1, voxel_size=0.1, volume=VOLUME, strides=strides[1:])
    rows = [measure(pyramid[stride], stride) for stride in strides]
    print(f"\n{device_name()}, {torch.get_num_threads()} threads, {len(points):,} points, {WIDTH} channels, ms\n")
    print("| stride | voxels | inference, spconv | ours | bfloat16 | ratio | training, spconv | ours | ratio |")
    print("|---:|" + 8 * "---:|")
    for row in rows:
        inference, training = row["inference"], row["training"]
        ratios = [pair["spconv"] / pair["ours"] for pair in (inference, training)]
        print(
            f"| {row['stride']} | {row['voxels']:,} | {inference['spconv']:.1f} | {inference['ours']:.1f} |"
            f" {inference['bfloat16']:.1f} | {ratios[0]:.1f} | {training['spconv']:.1f} | {training['ours']:.1f} |"
            f" {ratios[1]:.1f} |"
        )
    result = {"points": len(points), "channels": WIDTH, "threads": torch.get_num_threads(), "rows": rows}
    result |= {"device": device_name(), "versions": versions(), "commit": commit()}
    out = args.out or file_of_device(ROOT / "benchmarks/results", "convolution")
    out.write_text(json.dumps(result, indent=2) + "\n")


def measure(scale, stride):
    """Return the medians in ms of one layer, with its kernel map at hand, as the second layer of a stage has it."""
    torch.manual_seed(0)
    algorithm = spconv.core.ConvAlgo.Native
    theirs = reference.SubMConv3d(WIDTH, WIDTH, 3, padding=1, bias=False, indice_key="a", algo=algorithm)
    ours, small = SubMConv3d(WIDTH, WIDTH, key="a"), SubMConv3d(WIDTH, WIDTH, key="a")
    for layer in (ours, small):
        layer.load_state_dict(theirs.state_dict())
    small.products = torch.bfloat16
    features = torch.randn(len(scale), WIDTH, requires_grad=True)
    target = torch.randn(len(scale), WIDTH)
    layers = {"spconv": theirs, "ours": ours, "bfloat16": small}
    inputs = {name: sparse_tensor(features, scale.coordinates, scale.shape, 1) for name in layers}

    def infer(name):
        with torch.inference_mode():
            return (layers[name](inputs[name].replace_feature(features.detach())).features,)

    def train(name):
        output = layers[name](inputs[name].replace_feature(features)).features
        return output.detach(), *torch.autograd.grad(output, [features, layers[name].weight], target)

    found = {
        "inference": turns({name: lambda name=name: infer(name) for name in layers}),
        "training": turns({name: lambda name=name: train(name) for name in ("spconv", "ours")}),
    }
    return {"stride": stride, "voxels": len(scale), **found}


def turns(calls):
    """Return the median in ms of each call. Each turn makes one after the other. Our results must equal spconv's."""
    results = {name: call() for name, call in calls.items()}
    assert all(torch.equal(a, b) for a, b in zip(results["spconv"], results["ours"], strict=True))
    times = {name: [] for name in calls}
    for _ in range(TURNS):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            times[name].append(1e3 * (time.perf_counter() - start))
    return {name: round(float(np.median(values)), 2) for name, values in times.items()}


if __name__ == "__main__":
    main()
