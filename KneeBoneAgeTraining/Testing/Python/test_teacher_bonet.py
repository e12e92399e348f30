"""BoNet (Spampinato 2017): its deformation layer."""

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))
from toy_teachers import bars, learnt, tiny


def test_the_deformation_of_bonet_starts_as_none_and_is_learnt():
    none = torch.eye(2, 3)[None].expand(4, -1, -1)
    image, sex, age, _ = bars(4)
    with torch.no_grad():
        torch.testing.assert_close(
            tiny("bonet").eval()(image, sex, age).extra["deformation"], none, rtol=0, atol=0
        )
        found = learnt("bonet")(image, sex, age).extra["deformation"]
    assert (found - none).abs().max() > 0.01
