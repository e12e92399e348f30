"""Recipes of the knee student: what may stand in one, and how it becomes the `Recipe` of the age networks."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import Field, field_validator, model_validator

from KneeBoneAgeLib.crop import SIZE_PX
from KneeBoneAgeLib.network import AgeNetworkConfig

from ..augmentation import Jitter
from ..batches import counts_of_parts
from ..recipe import Recipe
from ..recipes import shipped_knee_recipes, shipped_recipes
from ..recipes.reading import changed, checked, load_values
from ..recipes.schema import Count, EarlyStopping, NotNegative, Section, Share
from ..runs.record import RunError

LABEL = "assigned"
"""The column of `CropLabels` that a student learns from, whoever gave the label."""


class KneeAugmentation(Section):
    """How crops are varied; each crop anew in every step."""

    rotation_deg: NotNegative = Field(default=6.0, description="turned by up to so many degrees, either way")
    scale: NotNegative = Field(default=0.08, description="log of the magnification, up to this, either way")
    shift: NotNegative = Field(default=0.05, description="moved by up to this share of the crop's side")
    brightness: NotNegative = Field(
        default=0.15, description="standard deviation of a gradient of brightness over the crop"
    )
    contrast: NotNegative = Field(default=0.3, description="standard deviation of log gamma")
    inversion: Share = Field(
        default=0.0,
        description="share of crops whose grey values are inverted (bone dark); reading settles the polarity of films",
    )
    resolution: Share = Field(
        default=0.2, description="share of crops that are coarsened, by a factor of up to 3"
    )
    blur_px: NotNegative = Field(
        default=0.8, description="largest standard deviation of a blur, pixels of the crop"
    )
    noise: NotNegative = Field(
        default=0.04, description="largest standard deviation of noise, share of the crop's contrast"
    )
    occlusion: Share = Field(default=0.05, description="share of crops with something in the way")
    texture: NotNegative = Field(
        default=0.0,
        description="largest standard deviation of trabecular streaks, share of the bone's brightness",
    )
    lines: NotNegative = Field(default=0.0, description="mean number of stray lines that are no physis")
    clouds: NotNegative = Field(
        default=0.0,
        description="largest standard deviation of areas of other density, share of the bone's brightness",
    )

    @property
    def jitter(self) -> Jitter:
        return Jitter(
            scale=self.scale,
            shift=self.shift,
            rotation_deg=self.rotation_deg,
            gamma=self.contrast,
            blur_px=self.blur_px,
            noise=self.noise,
            shading=self.brightness,
            occlusion=self.occlusion,
            texture=self.texture,
            lines=self.lines,
            clouds=self.clouds,
        )


class Negatives(Section):
    """Crops that are no frontal knee, for the gate that refuses these; drawn by the phantom."""

    count: int = Field(
        default=320, ge=0, description="so many are drawn; 0: none, and the bundle has no gate"
    )
    seed: int = Field(default=9001, ge=0, description="seed of the drawing")
    share: Share = Field(
        default=0.05,
        description="share of a batch, one crop at least, so that features tell them from knees; 0: not learnt from",
    )

    @property
    def shares(self) -> tuple[float, ...]:
        """Of a batch: knees, then what was drawn, where that is learnt from."""
        return (1 - self.share, self.share) if self.count and self.share else (1.0,)


class KneeRecipe(Section):
    """How a knee model is trained on the crops of a study."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$", description="short name: a-z, 0-9, hyphens")
    description: str = Field(description="what it is, in a sentence or two")
    reference: str = Field(default="", description="the paper it follows")
    task: Literal["knee"] = Field(default="knee", description="knee: bone age from crops of the knee")
    network: dict[str, Any] = Field(
        default_factory=dict,
        description="fields of KneeBoneAgeLib.network.AgeNetworkConfig; image_size is the crop's. What is not named is "
        "as in the network that is started from, but for field and map_rank",
    )
    from_hand: Literal["backbone", "all"] = Field(
        default="backbone",
        description="what is taken over of a hand teacher: its backbone, or all that fits, the readers of places in a "
        "hand too; of a bundle all is",
    )
    epochs: Count = Field(description="passes over the training crops, at most")
    learning_rate: float = Field(gt=0, description="highest learning rate; lowered as a cosine")
    warm_up: Share = Field(default=0.1, description="share of the steps in which the learning rate rises")
    weight_decay: NotNegative = Field(default=0.05, description="of matrices and filters")
    batch: Count = Field(default=24, description="crops a step; a smaller study makes smaller batches")
    missing_sex: Share = Field(
        default=0.12, description="share of crops shown without the sex, so that it may be missing"
    )
    frozen_stages: int = Field(
        default=0, ge=0, description="first stages of the backbone that stay as they are"
    )
    reader_sd_months: float = Field(
        default=4.0, gt=0, description="standard deviation of a reader's bone age about the true one"
    )
    pseudo_sd_months: float = Field(
        default=3.5,
        gt=0,
        description="standard deviation of pseudo-labels about the true bone age; the label's own spread is added",
    )
    prior_steps: int = Field(
        default=200,
        ge=0,
        description="steps in which bone age is learnt from age and sex alone; 0: not learnt anew",
    )
    augmentation: KneeAugmentation = Field(default=KneeAugmentation(), description="how crops are varied")
    negatives: Negatives = Field(default=Negatives(), description="crops that are no frontal knee")
    early_stopping: EarlyStopping | None = Field(
        default=None, description="when to stop before the last epoch; null: never, the last weights are kept"
    )
    ema_decay: float = Field(
        default=0.99, ge=0, lt=1, description="of the moving average of the weights, which is what is kept"
    )
    precision: Literal["auto", "32", "16-mixed", "bf16-mixed"] = Field(
        default="auto", description="auto: bf16-mixed where the device has it, else 32"
    )
    interval_level: float = Field(
        default=0.9, gt=0, lt=1, description="share of bone ages that intervals cover"
    )
    folds: tuple[Annotated[int, Field(ge=0)], ...] | None = Field(
        default=None, description="folds of the study that are trained; null: all"
    )
    seed: int = Field(default=1, ge=0, description="of first weights, order of crops and augmentation")

    @field_validator("network")
    @classmethod
    def _known(cls, options: dict[str, Any]) -> dict[str, Any]:
        known = [one.name for one in dataclasses.fields(AgeNetworkConfig) if one.name != "image_size"]
        for name in options:
            if name not in known:
                near = difflib.get_close_matches(name, known, 1, cutoff=0.0)
                raise ValueError(
                    f"unknown option {name!r} of the network; the nearest known one is {near[0]!r}"
                )
        return options

    @model_validator(mode="after")
    def _buildable(self) -> Self:
        self.config()
        return self

    def config(self, start: AgeNetworkConfig | None = None) -> AgeNetworkConfig:
        """The network's own configuration at the crop's size.

        What the recipe does not name is as in `start`, the network whose weights are taken over, so that all of them
        fit; but how much of a crop is seen stays the recipe's, and the map reader has full rank, as for training.
        """
        own = AgeNetworkConfig()
        followed = {**(start or own).to_json(), "field": own.field, "map_rank": own.map_rank}
        return AgeNetworkConfig.from_json({**followed, **self.network, "image_size": SIZE_PX})

    def training(
        self, crops: int, fold: int, devices: int = 1, start: AgeNetworkConfig | None = None
    ) -> Recipe:
        """The settings of one fold that learns from so many crops on so many devices; `start` as in `config`.

        Raises RunError where a device would get no knee.
        """
        batch = min(self.batch, max(2, crops // 4)) // devices * devices
        epoch_steps = max(1, -(-crops // self.knees_of(batch, devices)))
        return Recipe(
            steps=self.epochs * epoch_steps,
            epoch_steps=epoch_steps,
            label=LABEL,
            reader_sd_months=self.reader_sd_months,
            pseudo_sd_months=self.pseudo_sd_months,
            network=self.config(start),
            jitter=self.augmentation.jitter,
            batch=batch,
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            warm_up=self.warm_up,
            ema_decay=self.ema_decay,
            missing_sex=self.missing_sex,
            negative_share=self.negatives.share,
            frozen_stages=self.frozen_stages,
            prior_steps=self.prior_steps,
            point_weight=0.0,
            seed=self.seed + 100 * fold,
        )

    def knees_of(self, batch: int, devices: int = 1) -> int:
        """How many crops of a batch are knees, on all devices together.

        Raises RunError where a device would get none.
        """
        knees = devices * counts_of_parts(batch // devices, self.negatives.shares)[0]
        if knees >= devices:
            return knees
        others = len(self.negatives.shares) > 1
        ways = ["use fewer devices"] if devices > 1 else []
        ways += ["raise batch", "lower negatives.share", "set negatives.count to 0"] if others else []
        raise RunError(
            f"recipe {self.name}: a batch of {batch} crops"
            + (f", of which {self.negatives.share:.0%} (one at least) are no knees," if others else "")
            + f" has no knee for each of {devices} device{'s' * (devices > 1)}; {', or '.join(ways)}"
        )


def knee_recipe_path(name_or_path: str | Path) -> Path:
    """The file of a knee recipe that ships, or the path that was given."""
    return shipped_knee_recipes().get(str(name_or_path), Path(name_or_path))


def is_knee_recipe(name_or_path: str | Path) -> bool:
    """Whether a recipe is one of a knee model: it ships as such, or its file has no stages and no architecture."""
    if str(name_or_path) in shipped_recipes():
        return False
    try:
        values = yaml.safe_load(knee_recipe_path(name_or_path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return False
    return isinstance(values, dict) and not {"stages", "architecture"} & set(values)


def load_knee_recipe(name_or_path: str | Path, changes: Sequence[str] = ()) -> KneeRecipe:
    """A knee recipe that ships, by name, or a file, with changes as `recipes.reading.changed` takes them.

    Raises
    ------
    RecipeError
        There is none, it is no YAML, a key is unknown or a value impossible.
    """
    path = knee_recipe_path(name_or_path)
    values = load_values(name_or_path, path, shipped_recipes(), "hands")
    return checked(KneeRecipe, changed(values, changes), path)


def dump_knee_recipe(recipe: KneeRecipe) -> str:
    """The whole recipe as YAML, defaults included; `load_knee_recipe` gives it back."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=100)
