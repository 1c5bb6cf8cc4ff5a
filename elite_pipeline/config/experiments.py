"""Experiments, comparisons of them, and the oracles that stand in for a teacher."""

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, StringConstraints, model_validator

from elite_pipeline.config.validation import Section
from elite_pipeline.config.values import Name, Natural


class Oracle(Section):
    """A diagnostic: the ground truth of a simulated world with errors added, up to a stated accuracy."""

    # No better than chance among 19 classes, the likeliest class would be no answer any more.
    accuracy: Annotated[float, Field(strict=True, gt=1 / 19, le=1)]
    seed: Natural


class Experiment(Section):
    """What is trained by whom on what."""

    dataset: Name
    teacher: Name | None
    student: Name
    pretraining: Name | None = None


class Compared(Section):
    """An experiment of a comparison. arm, setting: its place in a figure of arms, None in other figures."""

    experiment: Name
    arm: str | None = None
    setting: str | None = None


def _named(value: Any) -> Any:
    """The experiment's name alone is short for `{experiment: name}`."""
    return {"experiment": value} if isinstance(value, str) else value


Label = Annotated[str, StringConstraints(min_length=1)]
Figure = Literal["rows", "curves", "arms", "oracles"]
"""What `plot_comparison` draws: a row for each experiment; mIoU over labelled scans with and without distillation;
arms beside each other in each setting; rows, and the gain over the accuracy of oracles."""


class ComparisonSettings(Section):
    """Experiments side by side, each with several seeds."""

    figure: Figure = "rows"
    experiments: dict[Label, Annotated[Compared, BeforeValidator(_named)]] = Field(min_length=2)
    seeds: list[Natural] = Field(min_length=1)
    differences: list[tuple[str, str]] = Field(default=[])

    @model_validator(mode="after")
    def _differences_are_of_its_experiments(self) -> Self:
        for pair in self.differences:
            if unknown := [label for label in pair if label not in self.experiments]:
                raise ValueError(f"differences name {unknown}, but experiments: holds only {sorted(self.experiments)}")
        if len(self.seeds) > len(set(self.seeds)):
            raise ValueError(f"a seed stands twice in {self.seeds}")
        return self

    @model_validator(mode="after")
    def _arms_have_their_places(self) -> Self:
        taken: dict[tuple[str, str], str] = {}
        for label, about in self.experiments.items():
            if self.figure != "arms":
                if about.arm is not None or about.setting is not None:
                    raise ValueError(
                        f"experiments.{label} has an arm or a setting, which only figure: arms reads: write that, or"
                        " leave them out"
                    )
            elif about.arm is None or about.setting is None:
                raise ValueError(
                    f"experiments.{label} has no place in figure: arms. Write"
                    f" {{experiment: {about.experiment}, arm: ..., setting: ...}}"
                )
            elif (other := taken.setdefault((about.arm, about.setting), label)) != label:
                raise ValueError(
                    f"experiments.{label} has the arm and setting of experiments.{other}: {about.arm}, {about.setting}"
                )
        return self
