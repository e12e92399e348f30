"""What a recipe may say: every field with its meaning, its unit and its default. Unknown keys are errors."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from ..teachers.architecture import Architecture

Share = Annotated[float, Field(ge=0, le=1)]
NotNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]


class Section(BaseModel):
    """A part of a recipe: frozen, and nothing in it that is not described."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class StageInputs(Section):
    """Which numbers the network is given beside the picture."""

    sex: bool = Field(default=True, description="whether sex is an input")
    chronological_age: bool = Field(default=False, description="whether chronological age is an input")


class Stage(Section):
    """One round of training; it starts from the weights of the one before."""

    name: str = Field(
        default="hand",
        pattern=r"^[a-z0-9][a-z0-9-]*$",
        description="name in logs and files: a-z, 0-9, hyphens",
    )
    inputs: StageInputs = Field(
        default=StageInputs(), description="what the network is given beside the picture"
    )
    epochs: Count = Field(description="passes over the training films, at most")
    learning_rate: float = Field(gt=0, description="highest learning rate")
    warm_up: Share = Field(
        default=0.05, description="share of the stage's steps in which the learning rate rises from 0"
    )
    missing_sex: Share = Field(
        default=0.1, description="share of films shown without their sex, so that it may be missing"
    )
    missing_age: Share = Field(
        default=0.15, description="share of films shown without their chronological age, where it is an input"
    )


class Optimiser(Section):
    """How weights are changed; the learning rate is the stage's, warmed up and then lowered as a cosine."""

    kind: Literal["adamw", "adam", "sgd"] = Field(default="adamw", description="optimiser")
    weight_decay: NotNegative = Field(
        default=0.05, description="of matrices and filters; never of biases and norms"
    )
    momentum: Share = Field(default=0.9, description="momentum of sgd, beta 1 of adam and adamw")
    clip_norm: NotNegative = Field(default=1.0, description="largest norm of the gradient; 0: not clipped")
    last_share: Share = Field(default=0.01, description="learning rate at the end, as a share of the highest")


class Augmentation(Section):
    """How training films are varied; each film anew in every epoch."""

    rotation_deg: NotNegative = Field(default=10.0, description="turned by up to so many degrees, either way")
    scale: NotNegative = Field(default=0.08, description="log of the magnification, up to this, either way")
    shift: NotNegative = Field(default=0.04, description="moved by up to this share of the picture's sides")
    mirror: Share = Field(default=0.0, description="share of films that are mirrored; right hands always are")
    brightness: NotNegative = Field(
        default=0.1, description="standard deviation of a gradient of brightness over the film"
    )
    contrast: NotNegative = Field(default=0.25, description="standard deviation of log gamma")
    inversion: Share = Field(
        default=0.0, description="share of films whose grey values are inverted (bone dark)"
    )
    resolution: Share = Field(
        default=0.2, description="share of films that are coarsened, by a factor of up to 3"
    )
    blur_px: NotNegative = Field(
        default=1.0, description="largest standard deviation of a blur, pixels of the picture"
    )
    noise: NotNegative = Field(
        default=0.04, description="largest standard deviation of noise, share of the film's contrast"
    )


class EarlyStopping(Section):
    """Stop when children that are not learnt from get no better; the best epoch's weights are kept.

    These children are taken from the training folds, so the held-out fold has no say in the choice.
    """

    patience_epochs: Count = Field(description="epochs without a better error after which a stage ends")
    validation_share: float = Field(
        default=0.1, gt=0, le=0.5, description="share of the training children that are only looked at"
    )


class HandRecipe(Section):
    """How a hand model is trained."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$", description="short name: a-z, 0-9, hyphens")
    description: str = Field(description="what it is, in a sentence or two")
    reference: str = Field("", description="the paper it follows")
    task: Literal["hand"] = Field(default="hand", description="hand: bone age from films of the hand")
    architecture: Architecture = Field(description="the network; its other fields depend on `kind`")
    image_size: tuple[Count, Count] = Field(description="rows and columns of the prepared picture, pixels")
    stages: tuple[Stage, ...] = Field(min_length=1, description="rounds of training, one after another")
    optimiser: Optimiser = Field(default=Optimiser(), description="how weights are changed")
    batch: Count = Field(
        default=16, description="films a step, of all devices together; a smaller study makes smaller batches"
    )
    augmentation: Augmentation = Field(default=Augmentation(), description="how training films are varied")
    label: Literal["reader"] = Field(
        default="reader", description="reader: a reader's bone age, `bone_age_months`"
    )
    early_stopping: EarlyStopping | None = Field(
        default=None, description="when to stop before the last epoch; null: never, the last weights are kept"
    )
    ema_decay: float = Field(
        default=0.995,
        ge=0,
        lt=1,
        description="of the moving average of the weights, which is what is kept; 0: no average",
    )
    mirrored_average: bool = Field(
        default=False,
        description="whether an estimate is the mean of the picture's and of its mirror image's; needs "
        "augmentation.mirror",
    )
    precision: Literal["auto", "32", "16-mixed", "bf16-mixed"] = Field(
        default="auto", description="auto: bf16-mixed where the device has it, else 32"
    )
    folds: tuple[Annotated[int, Field(ge=0)], ...] | None = Field(
        default=None, description="folds of the study that are trained; null: all"
    )
    seed: int = Field(default=1, ge=0, description="of first weights, order of films and augmentation")

    @field_validator("stages")
    @classmethod
    def _named_apart(cls, stages: tuple[Stage, ...]) -> tuple[Stage, ...]:
        names = [stage.name for stage in stages]
        if len(set(names)) < len(names):
            raise ValueError(f"two stages have the same name: {', '.join(names)}")
        return stages

    @field_validator("image_size")
    @classmethod
    def _large_enough(cls, size: tuple[int, int]) -> tuple[int, int]:
        if not all(16 <= side <= 2048 for side in size):
            raise ValueError(f"{size[0]} x {size[1]} pixels: 16 to 2048 rows and columns are possible")
        return size

    @model_validator(mode="after")
    def _mirror_images_are_learnt(self) -> HandRecipe:
        if self.mirrored_average and not self.augmentation.mirror:
            raise ValueError(
                "mirrored_average needs augmentation.mirror above 0, or mirror images are strange"
            )
        return self

    @model_validator(mode="after")
    def _network_takes_the_size(self) -> HandRecipe:
        if self.architecture.kind == "age-network":
            self.architecture.config(self.image_size)
        return self
