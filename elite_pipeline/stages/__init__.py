"""One module per rule of the DAG, with the name of the rule.

A stage parses arguments, reads, calls library functions and writes. The mathematics is in the library. A `main` raises
`InputError` where the settings or a file have a fault; `errors.run` shows its message.
"""

import argparse
from pathlib import Path

from elite_pipeline.config.validation import Model, unflatten, validate

STORES = {
    "frames": "index (Parquet), from index_frames or keep_labels",
    "selected": "index that marks as labelled only the scans whose labels students use (Parquet), from keep_labels",
    "projection": "projection store (Zarr), from project_points",
    "pseudo-labels": "pseudo-label store (Zarr), from label_images",
    "targets": "targets store (Zarr), from cache_teacher",
    "aggregated": "store of aggregated soft labels (Zarr), from aggregate_targets",
    "carried": "store of carried labels (Zarr), from carry_labels",
    "superpixels": "superpixel store (Zarr), from segment_images",
}
"""Option -> the file of a sequence that the option names, for its help text."""


def parser(description: str | None) -> argparse.ArgumentParser:
    """Return an argument parser that also takes the stage's settings as `dotted.key=json` words."""
    result = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    result.add_argument("settings", nargs="*", metavar="key=json", help="settings with the keys of config.yaml")
    return result


def add_data(stage: argparse.ArgumentParser) -> None:
    """Add `--data`: the folder of the recordings."""
    stage.add_argument("--data", type=Path, required=True, help="data/<dataset>, the folder of the recordings")


def add_sequence(stage: argparse.ArgumentParser, *stores: str) -> None:
    """Add `--data` and an option for each of `stores` (of `STORES`): the files of one sequence."""
    add_data(stage)
    for name in stores:
        stage.add_argument(f"--{name}", type=Path, required=True, help=f"the sequence's {STORES[name]}")


def add_sequences(stage: argparse.ArgumentParser, *stores: str, optional: tuple[str, ...] = ()) -> None:
    """Add `--data` and an option for each of `stores`: the files of several sequences.

    All options list the sequences in the same order. Options in `optional` may be omitted or empty.
    """
    add_data(stage)
    for name in (*stores, *optional):
        needed = {"nargs": "+", "required": True} if name in stores else {"nargs": "*", "default": []}
        stage.add_argument(f"--{name}", type=Path, help=f"each sequence's {STORES[name]}", **needed)


def parse(
    stage: argparse.ArgumentParser, settings_model: type[Model], argv: list[str] | None = None
) -> tuple[argparse.Namespace, Model]:
    """Return (arguments, settings): `argv` parsed by `stage`, its settings validated as `settings_model`.

    stage: the result of `parser`. Raises `InputError` where settings are not valid.
    """
    arguments = stage.parse_intermixed_args(argv)
    return arguments, validate(settings_model, unflatten(arguments.settings), stage.prog)
