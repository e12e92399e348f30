"""Make the README's pictures of the Slicer module from those that the module's tests have saved.

    python -m pytest Testing/module && python Testing/screenshots.py

A step of the tutorial shows the panel beside the slice view; the other states of the panel stand side by side in
one picture. All go to `Resources/Screenshots`.
"""

from __future__ import annotations

from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
TAKEN = ROOT / "Testing" / "Output"
SHOWN = ROOT / "Resources" / "Screenshots"

STEPS = ("1-film", "2-knees", "3-bone-age", "4-explanation", "5-out-of-date")
STATES = {
    "states-film": (
        "panel-empty",
        "panel-not-a-film",
        "panel-typed",
        "panel-no-knee",
        "panel-refused-mature",
    ),
    "states-work": (
        *("panel-running", "tutorial-6-many-films-panel", "panel-dicom-database"),
        *("panel-model", "panel-missing"),
    ),
}
PANEL_WIDTH, HEIGHT, GAP = 400, 940, 12


def panel(name: str) -> Image.Image:
    """A picture of the panel at the width of the others, from its top."""
    picture = Image.open(TAKEN / f"{name}.png").convert("RGB")
    return picture.resize(
        (PANEL_WIDTH, round(picture.height * PANEL_WIDTH / picture.width)), Image.Resampling.LANCZOS
    )


def beside(pictures: list[Image.Image]) -> Image.Image:
    """Pictures from left to right, aligned at the top, on the panel's own grey."""
    width = sum(p.width for p in pictures) + GAP * (len(pictures) - 1)
    sheet = Image.new("RGB", (width, max(p.height for p in pictures)), (239, 239, 239))
    left = 0
    for picture in pictures:
        sheet.paste(picture, (left, 0))
        left += picture.width + GAP
    return sheet


def step(name: str) -> Image.Image:
    """The panel and the slice view of a step of the tutorial, cut to one height."""
    left = panel(f"tutorial-{name}-panel")
    left = left.crop((0, 0, left.width, min(left.height, HEIGHT)))
    view = Image.open(TAKEN / f"tutorial-{name}-view.png").convert("RGB")
    return beside([left, view.resize((round(view.width * left.height / view.height), left.height))])


def main() -> None:
    """Write all pictures."""
    SHOWN.mkdir(parents=True, exist_ok=True)
    for name in STEPS:
        step(name).save(SHOWN / f"{name}.jpg", quality=86, subsampling=0, optimize=True)
    for name, panels in STATES.items():
        sheet = beside([panel(one) for one in panels]).quantize(255, dither=Image.Dither.NONE)
        sheet.save(SHOWN / f"{name}.png", optimize=True)
    for path in sorted(SHOWN.iterdir()):
        print(f"{path.name}  {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
