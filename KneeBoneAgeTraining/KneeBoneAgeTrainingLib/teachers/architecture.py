"""What a recipe may say about its network: one frozen value a kind, told apart by `kind`.

>>> parse_architecture({"kind": "bonet"}).kind
'bonet'
"""

from __future__ import annotations

import dataclasses
import difflib
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, field_validator, model_validator

from KneeBoneAgeLib.network import AgeNetworkConfig

Pretrained = Literal["if-available", "none"]
Positive = Annotated[int, Field(gt=0)]
Rate = Annotated[float, Field(ge=0, lt=1)]
Head = Literal["distribution", "regression"]
PUBLISHED_BLOCKS = (10, 20, 10)
"""Residual blocks A, B and C of Inception-ResNet-V2 as timm has it (Szegedy et al. 2017, arXiv 1602.07261)."""
PRETRAINED = (
    "if-available: ImageNet weights when this machine holds or can fetch them, else random ones, and the log says "
    "which; none: random ones, nothing is fetched"
)


class _Architecture(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class TimmArchitecture(_Architecture):
    """A backbone of timm, pooled, with sex and age beside its features, and a head."""

    kind: Literal["timm"] = Field(description="any backbone of timm with one head")
    backbone: str = Field(description="timm's name of the network, for example convnext_tiny or resnet50")
    pretrained: Pretrained = Field("if-available", description=PRETRAINED)
    head: Head = Field(
        "distribution",
        description="distribution: 240 months, the estimate is their mean; regression: one number",
    )
    sigma_months: float = Field(
        10.0, gt=0, description="standard deviation of the Gaussian target about a label; distribution only"
    )
    drop_rate: Rate = Field(0.0, description="dropout before the head")
    code_width: Positive = Field(32, description="numbers that sex and chronological age are encoded in")
    backbone_options: dict[str, Any] = Field(
        default_factory=dict, description="further keyword arguments of timm.create_model"
    )


class AgeNetworkArchitecture(_Architecture):
    """The network of KneeBoneAgeLib on hands: a knee network can start from its weights."""

    kind: Literal["age-network"] = Field(description="KneeBoneAgeLib's age network, a ConvNeXt, on the hand")
    options: dict[str, Any] = Field(
        default_factory=dict,
        description="fields of KneeBoneAgeLib.network.AgeNetworkConfig; image_size is the recipe's, field is 1 here",
    )
    pretrained: Pretrained = Field(
        "none", description=f"{PRETRAINED}; they fit only with backbone_options: {{}} in options"
    )
    reader_sd_months: float = Field(
        4.0, gt=0, description="standard deviation of a reader's bone age about the true one"
    )
    baseline: tuple[int, int] = Field(
        (2, 34),
        description="which two key points, counted from 0, span the line that the others are measured against",
    )
    point_weight: float = Field(
        0.3, ge=0, description="weight of the key points' loss, where films have them"
    )

    @field_validator("options")
    @classmethod
    def _known(cls, options: dict[str, Any]) -> dict[str, Any]:
        known = [one.name for one in dataclasses.fields(AgeNetworkConfig)]
        for name in options:
            if name not in known:
                near = difflib.get_close_matches(name, known, 1)
                hint = f"; did you mean {near[0]!r}?" if near else f"; one of {', '.join(known)}"
                raise ValueError(f"unknown option {name!r} of the age network{hint}")
        if options.get("region_features"):
            raise ValueError("region_features: the regions are those of a knee; leave it out for hands")
        return options

    @field_validator("baseline")
    @classmethod
    def _two(cls, value: tuple[int, int]) -> tuple[int, int]:
        if min(value) < 0 or value[0] == value[1]:
            raise ValueError(f"baseline {value}: two different key points, counted from 0")
        return value

    def spelled_out(self, image_size: tuple[int, int]) -> AgeNetworkArchitecture:
        """The same with every option named, so that a later version's defaults do not change it."""
        return self.model_copy(update={"options": self.config(image_size).to_json()})

    def config(self, image_size: tuple[int, int]) -> AgeNetworkConfig:
        """The network's own configuration for square pictures of `image_size` (rows, columns).

        Raises
        ------
        ValueError
            For pictures that are not square, and where `options` says another size.
        """
        rows, columns = image_size
        if rows != columns:
            raise ValueError(
                f"age-network reads square pictures, image_size is {rows} x {columns}: give both the same"
            )
        if self.options.get("image_size", rows) != rows:
            raise ValueError(
                f"options.image_size is {self.options['image_size']}, the recipe's is {rows}: leave it out of options"
            )
        return AgeNetworkConfig.from_json(
            {**AgeNetworkConfig(field=1.0).to_json(), **self.options, "image_size": rows}
        )


class BoNetArchitecture(_Architecture):
    """A small network of its own with a deformation layer inside (Spampinato 2017)."""

    kind: Literal["bonet"] = Field(
        description="convolutions with a spatial-transformer deformation layer inside"
    )
    channels: tuple[Positive, ...] = Field(
        (48, 96, 192, 192, 192), min_length=2, description="maps of each convolution"
    )
    deform_after: int = Field(3, ge=1, description="convolutions before the deformation layer")
    localiser_width: Positive = Field(
        32, description="width of the network that reads the deformation off the maps"
    )
    dense: Positive = Field(1024, description="neurons of the fully connected layer")
    pooled_cells: Positive = Field(5, description="rows and columns that the last maps are pooled to")
    drop_rate: Rate = Field(0.3, description="dropout before the output")
    code_width: Positive = Field(16, description="numbers that sex and chronological age are encoded in")

    @model_validator(mode="after")
    def _deforms_inside(self) -> BoNetArchitecture:
        if self.deform_after >= len(self.channels):
            raise ValueError(
                f"deform_after is {self.deform_after} of {len(self.channels)} convolutions: it lies between two"
            )
        return self


class InceptionResNetV2Architecture(_Architecture):
    """Inception-ResNet-V2 with one output neuron, one model a sex (Cheng 2021)."""

    kind: Literal["inception-resnet-v2"] = Field(
        description="Inception-ResNet-V2, global average pooling, one ReLU output"
    )
    sex_specific: bool = Field(True, description="one model for girls and one for boys, or one for both")
    pretrained: Pretrained = Field("if-available", description=PRETRAINED)
    backbone: str = Field(
        "inception_resnet_v2",
        description="timm's name of the network; another one only to try things out quickly",
    )
    narrow: Literal[1, 2, 4, 8] = Field(
        1, description="Inception-ResNet-V2 with this part of its maps, for a CPU; 1: as published"
    )
    blocks: tuple[Positive, Positive, Positive] = Field(
        PUBLISHED_BLOCKS,
        description="its residual blocks A, B and C, at most as many as published, which is the default",
    )
    drop_rate: Rate = Field(0.2, description="dropout before the output")
    code_width: Positive = Field(16, description="numbers that sex and chronological age are encoded in")

    @property
    def as_published(self) -> bool:
        """Whether no maps and no blocks are left out."""
        return self.narrow == 1 and self.blocks == PUBLISHED_BLOCKS

    @model_validator(mode="after")
    def _can_be_made_smaller(self) -> InceptionResNetV2Architecture:
        if any(own > most for own, most in zip(self.blocks, PUBLISHED_BLOCKS, strict=True)):
            raise ValueError(f"blocks {self.blocks}: at most {PUBLISHED_BLOCKS}")
        if not self.as_published and self.backbone != "inception_resnet_v2":
            raise ValueError(f"narrow and blocks are of Inception-ResNet-V2, backbone is {self.backbone}")
        if not self.as_published and self.pretrained != "none":
            raise ValueError(
                "ImageNet weights do not fit a smaller network: pretrained: none, or leave out narrow and blocks"
            )
        return self


class IglovikovArchitecture(_Architecture):
    """Mask, key points, registration, and VGG-style networks on three regions (Iglovikov 2017)."""

    kind: Literal["iglovikov"] = Field(
        description="U-Net mask, key points, affine registration, regression and classification on three regions"
    )
    outputs: tuple[Literal["regression", "classification"], ...] = Field(
        ("regression", "classification"), min_length=1, description="networks of each region"
    )
    regions: tuple[Literal["hand", "carpal", "metacarpal_phalangeal"], ...] = Field(
        ("hand", "carpal", "metacarpal_phalangeal"), min_length=1, description="regions that have networks"
    )
    hand_size: tuple[Positive, Positive] = Field(
        (500, 375),
        description="rows and columns of the registered hand; the other regions are cut at its scale",
    )
    channels: tuple[Positive, ...] = Field(
        (32, 64, 128, 128, 256, 384), min_length=1, description="maps of each VGG block"
    )
    dense: Positive = Field(2048, description="neurons of each of the two dense layers")
    drop_rate: Rate = Field(0.5, description="dropout in the dense layers")
    code_width: Positive = Field(16, description="numbers that sex and chronological age are encoded in")
    finder_size: tuple[Positive, Positive] = Field(
        (256, 256), description="rows and columns of the small picture that mask and key points are read off"
    )
    finder_channels: tuple[Positive, ...] = Field(
        (16, 32, 64, 64, 128), min_length=1, description="maps of each VGG block that finds the key points"
    )
    unet_encoder: str = Field(
        "resnet18", description="encoder of the U-Net, a name of segmentation-models-pytorch"
    )
    unet_channels: tuple[Positive, ...] = Field(
        (128, 64, 32, 16, 16),
        min_length=5,
        max_length=5,
        description="maps of the U-Net's decoder, coarse to fine",
    )
    finder_dense: Positive = Field(512, description="neurons of the key points' dense layers")
    key_points: Positive = Field(37, description="key points that the films have; the network finds as many")
    pose_points: tuple[int, int, int] = Field(
        (2, 34, 32),
        description="which key points, counted from 0, are the capitate, the tip of the middle finger and of the thumb",
    )
    pose_tolerance: float = Field(
        0.06,
        gt=0,
        description="mean error of the key points, in shares of the picture, below which they register the hand",
    )
    sigma_months: float = Field(
        3.0, gt=0, description="standard deviation of the Gaussian target of classification"
    )
    mask_weight: float = Field(1.0, ge=0, description="weight of the mask's loss, where films have masks")
    key_point_weight: float = Field(
        1.0, ge=0, description="weight of the key points' loss, where films have them"
    )

    @field_validator("outputs", "regions")
    @classmethod
    def _once(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(value)) < len(value):
            raise ValueError(f"{', '.join(value)}: each at most once")
        return value

    @field_validator("finder_size")
    @classmethod
    def _halved(cls, value: tuple[int, int]) -> tuple[int, int]:
        if value[0] % 32 or value[1] % 32:
            raise ValueError(
                f"finder_size {value[0]} x {value[1]}: the U-Net halves five times, give multiples of 32"
            )
        return value

    @model_validator(mode="after")
    def _pose_among_key_points(self) -> IglovikovArchitecture:
        pose = self.pose_points
        if min(pose) < 0 or max(pose) >= self.key_points or len(set(pose)) < 3:
            raise ValueError(f"pose_points {pose}: three different ones of 0 to {self.key_points - 1}")
        return self


Architecture = Annotated[
    TimmArchitecture
    | AgeNetworkArchitecture
    | BoNetArchitecture
    | InceptionResNetV2Architecture
    | IglovikovArchitecture,
    Field(discriminator="kind"),
]
"""A field of this type takes any kind and refuses unknown ones by name."""

KINDS = ("timm", "age-network", "bonet", "inception-resnet-v2", "iglovikov")

_ADAPTER: TypeAdapter[Architecture] = TypeAdapter(Architecture)


def parse_architecture(values: dict[str, Any]) -> Architecture:
    """A dictionary, as a recipe or weights.json holds it, → the architecture; pydantic's errors name the field."""
    return _ADAPTER.validate_python(values)
