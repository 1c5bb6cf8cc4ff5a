"""Types of single values."""

from typing import Annotated

from pydantic import Field, StringConstraints

from elite_pipeline.datasets import NAME

Sequence = Annotated[str, StringConstraints(pattern=rf"^{NAME}$", strict=True)]
Frame = Annotated[str, StringConstraints(pattern=rf"^{NAME}$", strict=True)]
Camera = Annotated[str, StringConstraints(pattern=rf"^{NAME}$", strict=True)]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$")]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
# Strict: `true` is not a number, and neither is 1e-3, which YAML reads as text.
Finite = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Positive = Annotated[Finite, Field(gt=0)]
NonNegative = Annotated[Finite, Field(ge=0)]
Fraction = Annotated[Finite, Field(ge=0, le=1)]
Share = Annotated[Finite, Field(gt=0, le=1)]
Count = Annotated[int, Field(ge=1, strict=True)]
Natural = Annotated[int, Field(ge=0, strict=True)]
Interval = tuple[Finite, Finite]
