"""Settings of experiments, comparisons of experiments, and oracles (diagnostic teachers)."""

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, StringConstraints, model_validator

from elite_pipeline.config.validation import Section
from elite_pipeline.config.values import Name, Natural


class Oracle(Section):
    """A diagnostic: the ground truth of a simulated world, with errors added down to a stated accuracy."""

    # Above chance among 19 classes. At chance the most probable class would carry no information.
    accuracy: Annotated[float, Field(strict=True, gt=1 / 19, le=1)]
    seed: Natural


class Experiment(Section):
    """A student, the data set and the teacher that it learns from, and its pre-trained backbone."""

    dataset: Name
    teacher: Name | None
    student: Name
    pretraining: Name | None = None


class Compared(Section):
    """An experiment of a comparison. arm, setting: its place in `figure: arms`; None in other figures."""

    experiment: Name
    arm: str | None = None
    setting: str | None = None


def _named(value: Any) -> Any:
    """Returns `{experiment: name}` for a plain name, and other values unchanged."""
    return {"experiment": value} if isinstance(value, str) else value


Label = Annotated[str, StringConstraints(min_length=1)]
Split = Literal["val", "test"]
"""The sequences that are scored: validation sequences, by which settings may be chosen, or test sequences."""

Figure = Literal["rows", "curves", "arms", "oracles"]
"""The figure that `plot_comparison` draws. rows: one row per experiment. curves: mIoU over labelled scans, with and
without distillation. arms: arms side by side in each setting. oracles: rows, and the gain over oracle accuracy."""


class ComparisonSettings(Section):
    """Experiments side by side, each with several seeds."""

    figure: Figure = "rows"
    split: Split = "val"
    experiments: dict[Label, Annotated[Compared, BeforeValidator(_named)]] = Field(min_length=2)
    seeds: list[Natural] = Field(min_length=1)
    differences: list[tuple[str, str]] = Field(default=[])

    @model_validator(mode="after")
    def _differences_are_of_its_experiments(self) -> Self:
        for pair in self.differences:
            if unknown := [label for label in pair if label not in self.experiments]:
                raise ValueError(f"differences name {unknown}, but experiments: has only {sorted(self.experiments)}")
        if len(self.seeds) > len(set(self.seeds)):
            raise ValueError(f"seeds: {self.seeds} has a seed twice. Remove one")
        return self

    @model_validator(mode="after")
    def _arms_have_their_places(self) -> Self:
        taken: dict[tuple[str, str], str] = {}
        for label, about in self.experiments.items():
            if self.figure != "arms":
                if about.arm is not None or about.setting is not None:
                    raise ValueError(
                        f"experiments.{label} has an arm or a setting, which only figure: arms uses. Write figure:"
                        " arms, or remove both"
                    )
            elif about.arm is None or about.setting is None:
                raise ValueError(
                    f"experiments.{label} lacks its arm or its setting, which figure: arms needs. Write"
                    f" {{experiment: {about.experiment}, arm: ..., setting: ...}}"
                )
            elif (other := taken.setdefault((about.arm, about.setting), label)) != label:
                raise ValueError(
                    f"experiments.{label} has the same arm and setting as experiments.{other} ({about.arm},"
                    f" {about.setting}). Change one of them"
                )
        return self
