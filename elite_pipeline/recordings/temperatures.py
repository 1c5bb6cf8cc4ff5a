"""Reads the temperatures that `calibrate_targets` found. The logits of soft labels are divided by them."""

import json
import math
from dataclasses import dataclass
from pathlib import Path

from elite_pipeline.errors import InputError


@dataclass(frozen=True)
class Temperatures:
    """The temperatures of a teacher's soft labels. 1 changes nothing."""

    targets: float = 1.0
    aggregated: float | None = 1.0
    """None: no aggregated soft labels were calibrated."""


def read(path: Path) -> Temperatures:
    """The temperatures in the file `path`, from `calibrate_targets`. Raises `InputError` where it is damaged."""
    path = Path(path)
    try:
        found = json.loads(path.read_text())
        kinds = {name: found[name] for name in ("targets", "aggregated")}
        values = {name: None if kind is None else float(kind["temperature"]) for name, kind in kinds.items()}
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{path} is not a readable calibration ({error!r}). Delete it and run snakemake again."
        ) from None
    if values["targets"] is None or not all(v is None or (math.isfinite(v) and v > 0) for v in values.values()):
        raise InputError(
            f"{path}: the temperatures are {values}, but must be above 0. Delete it and run snakemake again."
        )
    return Temperatures(values["targets"], values["aggregated"])
