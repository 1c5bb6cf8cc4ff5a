"""Time SAM's image encoder on a KITTI frame, and compare with `segment_anything`'s padded square in float32.

    python benchmarks/encoder.py [--device cuda] [--encoder vit_b] [--repeats 5]

1. Seconds per image. Every round runs all variants in turn, so that other work on the machine affects all variants
   equally. On a CPU, also the CPU seconds of all threads, which other work does not increase.
2. The change of the features of image patches: without the padding (the same weights on the padded square and on the
   rectangle), and in bfloat16. Random weights say little about trained weights: their attention is nearly uniform, so
   padding dilutes it like any other patch.

Prints tables and writes `benchmarks/results/encoder_<device>.json`.
"""

import argparse
import json
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from segment_anything.modeling import ImageEncoderViT
from torch.nn import functional as F

from elite_pipeline.errors import InputError
from elite_pipeline.progress import progress
from elite_pipeline.provenance import commit, device_name, file_of_device, versions
from elite_pipeline.sam.build import ARCHITECTURES, Architecture, build_sam, untrained_sam
from elite_pipeline.sam.tiny import TinyEncoder
from elite_pipeline.sam.view import View

FRAME = Path("data/sample/sequences/00/image_2/000000.png")
LOWEST = 2
"""Number of rows of patches next to the padding that count as border."""


@torch.inference_mode()
def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--encoder", choices=ARCHITECTURES, default="vit_b")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="a tiny encoder, to see that this runs; needs --out")
    parser.add_argument("--out", type=Path, help="default: benchmarks/results/encoder_<device>.json")
    args = parser.parse_args()
    if args.quick:
        if args.out is None:
            parser.error("--quick needs --out: its numbers mean nothing")
        ARCHITECTURES["quick"] = Architecture(32, 4, 2, (0, 1, 2, 3), image_size=128)
        args.encoder, args.repeats = "quick", 1
    out = args.out or file_of_device(Path(__file__).parent / "results", "encoder")
    side = ARCHITECTURES[args.encoder].image_size
    image, source = read_frame()
    ours = random_encoder(args.encoder).to(args.device)
    stock = stock_encoder(args.encoder, ours)
    views = {
        f"{args.encoder}, random": (ours, View(side, 16), image, args.device),
        "sam_tiny, packaged": (packaged_encoder().to(args.device), View(512, 16), image, args.device),
    }
    result = {
        "frame": source,
        "encoder": f"{args.encoder}, random weights",
        "seconds": measure_seconds(
            variants(ours, stock, View(side, 16), image, args.device), args.repeats, args.device
        ),
        "same_square": same_square(ours, stock, View(side, 16), image, args.device),
        "no_padding": {name: without_padding(*which) for name, which in views.items()},
        "bf16-mixed": {name: in_bfloat16(*which) for name, which in views.items()},
        "threads": torch.get_num_threads(),
        "device": device_name() if args.device != "cpu" or not torch.cuda.is_available() else "cpu beside a GPU",
        "versions": versions(),
        "commit": commit(),
    }
    show(result)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=2) + "\n")


def read_frame():
    """Return ((376, 1241, 3) uint8, its source): the frame of the sample, or noise, which takes the same time."""
    if FRAME.exists():
        return np.array(Image.open(FRAME).convert("RGB")), str(FRAME)
    return np.random.default_rng(0).integers(0, 256, (376, 1241, 3), dtype=np.uint8), "noise, 1241 x 376"


def random_encoder(name):
    """Return our encoder with random weights, including the positions, which SAM initialises with zeros."""
    torch.manual_seed(0)
    encoder = untrained_sam(name).image_encoder.eval()
    for key, parameter in encoder.named_parameters():
        if "pos" in key:
            torch.nn.init.normal_(parameter, std=0.02)
    return encoder


def stock_encoder(name, ours):
    """Return the encoder of `segment_anything` with the same weights, built as by its `build_sam`."""
    a = ARCHITECTURES[name]
    with torch.device("meta"):
        stock = ImageEncoderViT(
            img_size=a.image_size,
            patch_size=a.patch,
            embed_dim=a.dim,
            depth=a.depth,
            num_heads=a.heads,
            out_chans=a.prompt,
            norm_layer=partial(torch.nn.LayerNorm, eps=1e-6),  # pyright: ignore[reportArgumentType]
            use_rel_pos=True,
            window_size=a.window,
            global_attn_indexes=a.global_blocks,
        )
    stock.load_state_dict(ours.state_dict(), assign=True)
    return stock.eval()


def variants(ours, stock, view, image, device):
    """Return name -> function that encodes the frame. Variants with a precision that the device lacks are left out."""
    rectangle = view.prepare(image)[None].to(device)
    square = padded_to_square(rectangle)
    found = {
        "segment_anything: square, eager, float32": lambda: stock(square),
        "square, float32": lambda: ours(square),
        "rectangle, eager, float32": lambda: eager_rectangle(stock, rectangle),
        "rectangle, float32": lambda: ours(rectangle),
    }
    for precision in ("bf16-mixed", "16-mixed"):
        if can(precision, device):
            found[f"rectangle, {precision}"] = partial(encode, ours, replace(view, precision=precision), rectangle)
    return found


def can(precision, device):
    try:
        View(512, 16, precision).autocast(device)
    except InputError:
        return False
    return True


def encode(encoder, view, prepared):
    with view.autocast(prepared.device):
        return encoder(prepared)


def eager_rectangle(stock, prepared):
    """Run `segment_anything`'s blocks on a rectangle. They stretch the relative positions: right time, wrong result."""
    x = stock.patch_embed(prepared)
    x = x + stock.pos_embed[:, : x.shape[1], : x.shape[2]]
    for block in stock.blocks:
        x = block(x)
    return stock.neck(x.permute(0, 3, 1, 2))


def padded_to_square(prepared):
    """Pad (1, 3, h, w) with w > h by zeros at the bottom to (1, 3, w, w)."""
    height, width = prepared.shape[2:]
    return F.pad(prepared, (0, 0, 0, width - height))


def measure_seconds(functions, repeats, device):
    """Return name -> seconds over `repeats` rounds after a warm-up round, and the speed relative to the first."""
    wall, cpu = ({name: [] for name in functions} for _ in range(2))
    for turn in progress(range(repeats + 1), label="encode", unit="round"):
        for name, function in functions.items():
            start = time.perf_counter(), time.process_time()
            function()
            if device == "cuda":
                torch.cuda.synchronize()
            if turn:
                wall[name].append(time.perf_counter() - start[0])
                cpu[name].append(time.process_time() - start[1])
    first = next(iter(functions))
    return {
        name: {
            "best": min(wall[name]),
            "median": float(np.median(wall[name])),
            "cpu_best": min(cpu[name]),
            "times_as_fast": min(wall[first]) / min(wall[name]),
            "times_as_fast_median": float(np.median(wall[first]) / np.median(wall[name])),
            "times_as_fast_cpu": min(cpu[first]) / min(cpu[name]),
        }
        for name in functions
    }


class PaddableEncoder(TinyEncoder):
    """`sam_tiny`'s encoder for padded squares.

    The original is made for rectangles: on a square it would stretch its positions over the padding. Here the
    positions of the image stay in place, and the lowest row is repeated below.
    """

    def positions(self, rows, columns):
        known = super().positions(min(rows, self.pos_embed.shape[1]), columns)
        return torch.cat([known, known[:, -1:].expand(-1, rows - known.shape[1], -1, -1)], 1)


def packaged_encoder():
    """Return the only encoder here with trained weights."""
    encoder = PaddableEncoder().eval()
    encoder.load_state_dict(build_sam("sam_tiny").image_encoder.state_dict())
    return encoder


def same_square(ours, stock, view, image, device):
    """Return the largest difference from `segment_anything` on the same input, relative to the largest value."""
    square = padded_to_square(view.prepare(image)[None].to(device))
    theirs = stock(square)
    return float((ours(square) - theirs).abs().max() / theirs.abs().max())


def without_padding(encoder, view, image, device):
    """Return the change of the features of the image's patches without the padding, per stage: see `moved`."""
    rectangle = view.prepare(image)[None].to(device)
    rows = rectangle.shape[2]
    square = encoder.stages(padded_to_square(rectangle))
    cut = [stage[:, :, : rows // stride] for stage, stride in zip(square, encoder.strides, strict=True)]
    return moved(encoder, cut, encoder.stages(rectangle))


def in_bfloat16(encoder, view, image, device):
    """Return the same for bfloat16, for comparison, or None if the device lacks it."""
    rectangle = view.prepare(image)[None].to(device)
    if not can("bf16-mixed", device):
        return None
    exact = encoder.stages(rectangle)
    with replace(view, precision="bf16-mixed").autocast(device):
        return moved(encoder, exact, encoder.stages(rectangle))


def moved(encoder, before, after):
    """Return relative `difference` and mean `cosine` over patches, per stage, for all, interior and border patches.

    Features are centred per channel over the image's patches, as for the heads: the common part of all patches carries
    no information about a place. `border`: the lowest rows of patches, next to the padding.
    """
    stages = []
    for a, b, stride in zip(before, after, encoder.strides, strict=True):
        a, b = (x.float() - a.float().mean((2, 3), keepdim=True) for x in (a, b))
        border = LOWEST * encoder.patch // stride
        parts = {"all": slice(None), "interior": slice(None, -border), "border": slice(-border, None)}
        stages.append({part: difference(a[:, :, rows], b[:, :, rows]) for part, rows in parts.items()})
    return stages


def difference(a, b):
    return {
        "difference": float((a - b).norm() / a.norm()),
        "cosine": float(F.cosine_similarity(a, b, dim=1).mean()),
    }


def show(result):
    print(f"\n{result['device']}, {result['threads']} threads, {result['frame']}, {result['encoder']}\n")
    print("| encoder | best, s | median, s | CPU, s | times as fast | by median | by CPU |\n" + 7 * "|---" + "|")
    for name, row in result["seconds"].items():
        seconds = " | ".join(f"{row[key]:.3f}" for key in ("best", "median", "cpu_best"))
        ratios = " | ".join(f"{row[f'times_as_fast{key}']:.1f}" for key in ("", "_median", "_cpu"))
        print(f"| {name} | {seconds} | {ratios} |")
    print(
        f"\nOn the same square our encoder differs from segment_anything by {result['same_square']:.1e} of the maximum."
    )
    print("\nChange of the features of image patches: difference relative to their spread, cosine\n")
    print("| change | weights | stage | all | interior | border |\n|---|---|---|---|---|---|")
    for what in ("no_padding", "bf16-mixed"):
        for name, stages in result[what].items():
            for s, stage in enumerate(stages or []):
                cells = [f"{part['difference']:.3f}, {part['cosine']:.3f}" for part in stage.values()]
                print(f"| {what} | {name} | {s} | {' | '.join(cells)} |")
    print("\nRandom weights say little about trained weights.")


if __name__ == "__main__":
    main()
