"""The class table in whose raw ids the simulator labels its surfaces: SemanticKITTI's."""

from functools import cache

from elite_pipeline.datasets.classes import ClassTable, class_table


@cache
def simulated_classes() -> ClassTable:
    """SemanticKITTI's table. A simulated data set may read the same raw ids by a table of its own."""
    return class_table("semantickitti")
