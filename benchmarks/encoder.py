"""SAM's image encoder on a KITTI frame: what each step away from `segment_anything`'s padded float32 square saves.

    python benchmarks/encoder.py [--device cuda] [--encoder vit_b] [--repeats 5]

1. Seconds per image, one variant after the other in every round, so that other work on the machine touches all alike;
   on a CPU also the CPU's seconds (of all threads), which other work does not lengthen.
2. What moves the features of image patches: leaving out the padding (the same weights on the padded square and on the
   rectangle), and bfloat16. Random weights say little about trained ones: their attention is nearly uniform, so that
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
from elite_pipeline.sam.build import ARCHITECTURES, build_sam, untrained_sam
from elite_pipeline.sam.tiny import TinyEncoder
from elite_pipeline.sam.view import View

FRAME = Path("data/sample/sequences/00/image_2/000000.png")
LOWEST = 2
"""Rows of patches next to the padding that count as border."""


@torch.inference_mode()
def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--encoder", choices=ARCHITECTURES, default="vit_b")
    parser.add_argument("--repeats", type=int, default=5)
    results = Path(__file__).parent / "results"
    parser.add_argument("--out", type=Path, default=file_of_device(results, "encoder"))
    args = parser.parse_args()
    image, source = read_frame()
    ours = random_encoder(args.encoder).to(args.device)
    stock = stock_encoder(args.encoder, ours)
    views = {
        f"{args.encoder}, random": (ours, View(1024, 16), image, args.device),
        "sam_tiny, packaged": (packaged_encoder().to(args.device), View(512, 16), image, args.device),
    }
    result = {
        "frame": source,
        "encoder": f"{args.encoder}, random weights",
        "seconds": measure_seconds(variants(ours, stock, image, args.device), args.repeats, args.device),
        "same_square": same_square(ours, stock, image, args.device),
        "no_padding": {name: without_padding(*which) for name, which in views.items()},
        "bf16-mixed": {name: in_bfloat16(*which) for name, which in views.items()},
        "threads": torch.get_num_threads(),
        "device": device_name() if args.device != "cpu" or not torch.cuda.is_available() else "cpu beside a GPU",
        "versions": versions(),
        "commit": commit(),
    }
    show(result)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=2) + "\n")


def read_frame():
    """((376, 1241, 3) uint8, where it comes from): the sample's, or noise, which takes as long."""
    if FRAME.exists():
        return np.array(Image.open(FRAME).convert("RGB")), str(FRAME)
    return np.random.default_rng(0).integers(0, 256, (376, 1241, 3), dtype=np.uint8), "noise, 1241 x 376"


def random_encoder(name):
    """Ours, with positions drawn too: SAM initialises them with zeros."""
    torch.manual_seed(0)
    encoder = untrained_sam(name).image_encoder.eval()
    for key, parameter in encoder.named_parameters():
        if "pos" in key:
            torch.nn.init.normal_(parameter, std=0.02)
    return encoder


def stock_encoder(name, ours):
    """`segment_anything`'s own with the same weights, as its `build_sam` makes it."""
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


def variants(ours, stock, image, device):
    """Name -> function that encodes the frame; those whose precision the device lacks are left out."""
    view = View(1024, 16)
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
        View(1024, 16, precision).autocast(device)
    except InputError:
        return False
    return True


def encode(encoder, view, prepared):
    with view.autocast(prepared.device):
        return encoder(prepared)


def eager_rectangle(stock, prepared):
    """`segment_anything`'s blocks on a rectangle. It stretches the tables of relative positions: as slow, but wrong."""
    x = stock.patch_embed(prepared)
    x = x + stock.pos_embed[:, : x.shape[1], : x.shape[2]]
    for block in stock.blocks:
        x = block(x)
    return stock.neck(x.permute(0, 3, 1, 2))


def padded_to_square(prepared):
    """(1, 3, h, w), w the longer -> (1, 3, w, w), zero below."""
    height, width = prepared.shape[2:]
    return F.pad(prepared, (0, 0, 0, width - height))


def measure_seconds(functions, repeats, device):
    """Name -> seconds of `repeats` rounds, after one that does not count, and how many times as fast as the first."""
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
    """`sam_tiny`'s encoder, which knows rectangles only: on a square it would stretch its positions over the padding.

    The image's own stay in their place here, and the lowest row of them is repeated below.
    """

    def positions(self, rows, columns):
        known = super().positions(min(rows, self.pos_embed.shape[1]), columns)
        return torch.cat([known, known[:, -1:].expand(-1, rows - known.shape[1], -1, -1)], 1)


def packaged_encoder():
    """The one encoder here whose weights are trained."""
    encoder = PaddableEncoder().eval()
    encoder.load_state_dict(build_sam("sam_tiny").image_encoder.state_dict())
    return encoder


def same_square(ours, stock, image, device):
    """How far ours is from `segment_anything` on the same input: the largest difference over the largest value."""
    square = padded_to_square(View(1024, 16).prepare(image)[None].to(device))
    theirs = stock(square)
    return float((ours(square) - theirs).abs().max() / theirs.abs().max())


def without_padding(encoder, view, image, device):
    """How far leaving out the padding moves the features of the image's patches, per stage: see `moved`."""
    rectangle = view.prepare(image)[None].to(device)
    rows = rectangle.shape[2]
    square = encoder.stages(padded_to_square(rectangle))
    cut = [stage[:, :, : rows // stride] for stage, stride in zip(square, encoder.strides, strict=True)]
    return moved(encoder, cut, encoder.stages(rectangle))


def in_bfloat16(encoder, view, image, device):
    """The same for bfloat16, as a measure to compare with; None where the device lacks it."""
    rectangle = view.prepare(image)[None].to(device)
    if not can("bf16-mixed", device):
        return None
    exact = encoder.stages(rectangle)
    with replace(view, precision="bf16-mixed").autocast(device):
        return moved(encoder, exact, encoder.stages(rectangle))


def moved(encoder, before, after):
    """Per stage and for all, interior and border patches: relative `difference`, and mean `cosine` over patches.

    Both of features centred per channel over the image's patches, as the heads read them: what all patches share says
    nothing about a place. `border`: the lowest rows of patches, next to the padding.
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
        f"\nOn the same square ours differs from segment_anything by {result['same_square']:.1e} of the largest value."
    )
    print("\nHow far features of image patches move: difference relative to their spread, cosine\n")
    print("| what | weights | stage | all | interior | border |\n|---|---|---|---|---|---|")
    for what in ("no_padding", "bf16-mixed"):
        for name, stages in result[what].items():
            for s, stage in enumerate(stages or []):
                cells = [f"{part['difference']:.3f}, {part['cosine']:.3f}" for part in stage.values()]
                print(f"| {what} | {name} | {s} | {' | '.join(cells)} |")
    print("\nRandom weights say little about trained ones.")


if __name__ == "__main__":
    main()
