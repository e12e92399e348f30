"""The left hand of a phantom child: the same child as its knee, with a clock of ossification for each centre.

`maturation` says what each centre shows at which maturity, `bones` and `shapes` draw one bone, `anatomy` builds and
poses the hand, `film` makes the film and the truth about it. Nothing made from it speaks of real children.
"""

from .anatomy import KEY_POINTS
from .film import REGIONS, HandFilm, aged, draw_hand

__all__ = ["KEY_POINTS", "REGIONS", "HandFilm", "aged", "draw_hand"]
