"""Tiny hand teachers and a toy task for their tests: a bright bar whose row tells months."""

import math
from functools import cache

import torch

from KneeBoneAgeTrainingLib.teachers import HandTruth, Inputs, build_teacher, parse_architecture

SIDE = 64


INPUTS = Inputs(image_size=(SIDE, SIDE), sex=True, chronological_age=True)


PICTURE_ONLY = Inputs(image_size=(SIDE, SIDE), sex=False, chronological_age=False)


TINY_CONVNEXT = {"depths": [1, 1, 1, 1], "dims": [8, 16, 16, 32], "ls_init_value": None}


TINY = {
    "timm": {
        "kind": "timm",
        "backbone": "convnext_atto",
        "backbone_options": {"depths": (1, 1, 1, 1), "dims": (8, 16, 16, 32)},
        "pretrained": "none",
    },
    "timm-regression": {
        "kind": "timm",
        "backbone": "convnext_atto",
        "backbone_options": {"depths": (1, 1, 1, 1), "dims": (8, 16, 16, 32)},
        "pretrained": "none",
        "head": "regression",
    },
    "age-network": {
        "kind": "age-network",
        "options": {"backbone_options": TINY_CONVNEXT, "points": 6, "point_width": 8, "map_features": 32},
    },
    "bonet": {"kind": "bonet", "channels": [8, 16, 16, 16], "deform_after": 2, "dense": 32, "drop_rate": 0},
    "inception-resnet-v2": {
        "kind": "inception-resnet-v2",
        "backbone": "test_resnet",
        "pretrained": "none",
        "drop_rate": 0,
    },
    "iglovikov": {
        "kind": "iglovikov",
        "hand_size": [40, 30],
        "channels": [8, 16, 16],
        "dense": 32,
        "drop_rate": 0,
        "finder_size": [32, 32],
        "finder_channels": [8, 16],
        "finder_dense": 64,
        "unet_channels": [16, 8, 8, 4, 4],
        "unet_encoder": "tu-test_resnet",
        "key_points": 3,
        "pose_points": [0, 1, 2],
    },
}


def tiny(name, inputs=INPUTS, **changes):
    torch.manual_seed(1)
    return build_teacher(parse_architecture({**TINY[name], **changes}), inputs)


def bars(count, seed=0):
    """A bright bar across a dim picture; its row tells months."""
    generator = torch.Generator().manual_seed(seed)
    months = 20 + 200 * torch.rand(count, generator=generator)
    image = -0.8 + 0.1 * torch.randn(count, 1, SIDE, SIDE, generator=generator)
    rows = (8 + 48 * (months - 20) / 200).round().long()
    for one, row in zip(image, rows, strict=True):
        one[0, row - 2 : row + 3, 8:-8] += 1.5
    sex = torch.arange(count) % 2
    return image, sex, torch.full((count,), math.nan), months


def truth_of(count):
    points = torch.tensor([[0.5, 0.7], [0.5, 0.1], [0.8, 0.4]]).repeat(count, 1, 1)
    mask = torch.zeros(count, SIDE, SIDE)
    mask[:, 8:-8, 8:-8] = 1
    points[0] = math.nan
    mask[1] = math.nan
    return HandTruth(points, mask)


@cache
@torch.enable_grad()
def learnt(name):
    """A tiny teacher after it was shown bars."""
    fewer = {
        "iglovikov": {"regions": ["hand", "carpal"], "outputs": ["regression"]},
        "inception-resnet-v2": {"sex_specific": False},
    }
    teacher = tiny(name, PICTURE_ONLY, **fewer.get(name, {}))
    image, sex, age, months = bars(64)
    steps, batch = (40, 8) if name in ("iglovikov", "bonet", "age-network") else (56, 16)
    optimizer = torch.optim.AdamW(teacher.parameters(), lr=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 6e-3, total_steps=steps)
    for step in range(steps):
        rows = torch.randperm(64, generator=torch.Generator().manual_seed(step))[:batch]
        loss = teacher.loss(teacher(image[rows], sex[rows], age[rows]), months[rows], None)["loss"]
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(teacher.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    return teacher.eval()
