"""The learning rate schedule of students and teachers."""

import math


def warm_up_cosine(step: int, steps: int, warmup: int) -> float:
    """The share of the full learning rate at `step` of `steps`: linear warm-up, then a half cosine to 0."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))
