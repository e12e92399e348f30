"""Make the README's pictures of the training module from those that its tests have saved.

    python -m pytest Testing/module_training && python Testing/screenshots_training.py

Studies, runs and their numbers are invented by the tests, and named so. All go to `Resources/Screenshots`.
"""

from __future__ import annotations

from PIL import Image
from screenshots import HEIGHT, SHOWN, TAKEN, beside, panel

SHEETS = {
    "training-1-study": ("training-study",),
    "training-2-running": ("training-running", "training-curves"),
    "training-3-results": ("training-results", "training-curves-finished"),
    "training-states": (
        "training-empty",
        "training-own-recipe",
        "training-knee",
        "training-broken",
        "training-missing",
    ),
}
CURVES = "training-curves"


def picture(name: str) -> Image.Image:
    """A picture at the width and height of the others: panels from their top, curves whole."""
    if name.startswith(CURVES):
        curves = Image.open(TAKEN / f"{name}.png").convert("RGB")
        return curves.resize((640, round(640 * curves.height / curves.width)), Image.Resampling.LANCZOS)
    whole = panel(name)
    return whole.crop((0, 0, whole.width, min(whole.height, HEIGHT)))


def main() -> None:
    """Write all pictures."""
    SHOWN.mkdir(parents=True, exist_ok=True)
    for name, parts in SHEETS.items():
        sheet = beside([picture(part) for part in parts]).quantize(
            255, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE
        )
        path = SHOWN / f"{name}.png"
        sheet.save(path, optimize=True)
        print(f"{path.name}  {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
