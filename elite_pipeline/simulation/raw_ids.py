"""The raw ids of the simulator's labels: those of SemanticKITTI's class table."""

from functools import cache

from elite_pipeline.datasets.classes import ClassTable, class_table


@cache
def simulated_classes() -> ClassTable:
    """SemanticKITTI's class table. A simulated data set may map the same raw ids with its own class table."""
    return class_table("semantickitti")
