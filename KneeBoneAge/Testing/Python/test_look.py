"""How drawn films look: physics that must show, the same bytes for the same seed, and what it may cost."""

import time
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from KneeBoneAgeLib.phantom import props
from KneeBoneAgeLib.phantom.beam import Beam, Detector, scatter, transmission
from KneeBoneAgeLib.phantom.collimation import Collimation
from KneeBoneAgeLib.phantom.grids import CoarseGrid
from KneeBoneAgeLib.phantom.look import HARDWARE, Look, expose
from KneeBoneAgeLib.phantom.processing import Damage, Processing

QUIET = Detector(quanta_per_mm2=1e9, electronic_per_mm2=0.0, blur_mm=0.0)
PLAIN = Look(
    Beam(heel=0.0, scatter_to_primary=0.0),
    QUIET,
    Processing(1.0, 40.0, 1.0, 1.0, 1.0, "linear", white=0.1),
    muscle=0.0,
)


@dataclass(frozen=True)
class Knee:
    centre_px: tuple[float, float]
    width_px: float
    angle_deg: float = 0.0
    side: str = "R"


@dataclass(frozen=True)
class Limb:
    """An upright cylinder of soft tissue with a bone tube and a ball of condyle in the middle of the film."""

    soft_mm: np.ndarray
    bone_mm: np.ndarray
    metal_mm: np.ndarray
    spacing_mm: float
    knees: tuple[Knee, ...] = field(default=())


def chord(radius: float, away: np.ndarray) -> np.ndarray:
    return 2 * np.sqrt(np.maximum(radius**2 - away**2, 0))


def limb(rows: int = 300, cols: int = 240, spacing_mm: float = 0.9) -> Limb:
    y, x = np.mgrid[:rows, :cols].astype(np.float32)
    x, y = (x + 0.5 - cols / 2) * spacing_mm, (y + 0.5 - rows / 2) * spacing_mm
    bone = chord(13.0, x) - chord(9.5, x) + 0.25 * chord(38.0, np.hypot(x, y))
    knee = Knee((cols / 2, rows / 2), 76 / spacing_mm)
    return Limb(chord(50.0, x), bone.astype(np.float32), np.zeros_like(bone, np.float32), spacing_mm, (knee,))


def test_the_same_seed_gives_the_same_bytes_and_another_seed_another_film():
    def film(seed: int) -> bytes:
        rng = np.random.default_rng(seed)
        return expose(limb(), Look.draw_strong(rng), rng).tobytes()

    assert film(3) == film(3)
    assert film(3) != film(4)


@pytest.mark.parametrize("draw", [Look.draw, Look.draw_strong])
def test_every_drawn_look_gives_a_finite_film_between_black_and_white_and_leaves_the_scene_alone(draw):
    rng = np.random.default_rng(11)
    scene = limb(151, 122, 1.7)
    before = scene.soft_mm.copy(), scene.bone_mm.copy(), scene.metal_mm.copy()
    for _ in range(60):
        film = expose(scene, draw(rng), rng)
        assert film.dtype == np.float32
        assert film.shape == scene.soft_mm.shape
        assert np.isfinite(film).all()
        assert film.min() >= 0
        assert film.max() <= 1
    for array, kept in zip((scene.soft_mm, scene.bone_mm, scene.metal_mm), before, strict=True):
        np.testing.assert_array_equal(array, kept)


def test_bone_is_brighter_than_soft_tissue_and_soft_tissue_than_air_on_clinical_films():
    rng = np.random.default_rng(5)
    scene = limb()
    bone, soft, air = (
        (slice(140, 160), slice(100, 140)),
        (slice(20, 40), slice(90, 98)),
        (slice(20, 280), slice(25, 50)),
    )
    for _ in range(40):
        look = replace(
            Look.draw(rng), collimation=Collimation(), labels=(), border=None, hardware=None, table_lines=0
        )
        film = expose(scene, look, rng)
        assert film[bone].mean() > film[soft].mean() > film[air].mean()


def test_the_beam_hardens_so_that_twice_the_bone_takes_less_than_twice_the_log_signal():
    paths = np.array([0.0, 10.0, 20.0], np.float32)
    log_signal = -np.log(transmission(np.zeros(3, np.float32), paths, None, Beam()))
    assert log_signal[0] == pytest.approx(0, abs=1e-6)
    assert 1.7 < log_signal[2] / log_signal[1] < 1.99
    # NIST: 1.06 g/cm³ × 0.227 to 0.379 cm²/g between 50 and 30 keV, so 0.024 to 0.040 per mm of soft tissue
    per_mm = -np.log(transmission(np.float32([1.0]), np.zeros(1, np.float32), None, Beam())).item()
    assert 0.02 < per_mm < 0.045


def test_scatter_takes_contrast_from_the_bone_and_reaches_beyond_the_skin():
    scene = limb(150, 120, 1.8)
    primary = transmission(scene.soft_mm, scene.bone_mm, None, PLAIN.beam)
    grid = CoarseGrid(primary.shape, 1)
    veil = scatter(
        grid, scene.spacing_mm, primary, scene.soft_mm, replace(PLAIN.beam, scatter_to_primary=0.6)
    )
    bone, soft, air = (20, 60), (20, 45), (75, 28)
    clear = np.log(primary[soft] / primary[bone])
    assert 0.3 * clear < np.log((primary + veil)[soft] / (primary + veil)[bone]) < 0.9 * clear
    assert veil[air] > 0.2 * veil[bone]
    assert veil.std() / veil.mean() < primary.std() / primary.mean()


def test_the_heel_effect_tilts_the_background():
    look = replace(PLAIN, beam=replace(PLAIN.beam, heel=0.4, heel_angle_deg=90), processing=replace(
        PLAIN.processing, black=1.0))  # fmt: skip
    film = expose(limb(), look, np.random.default_rng(0))
    assert film[-1, 3] > film[0, 3] + 0.02


def test_relative_noise_falls_with_the_side_of_a_pixel():
    def noise(spacing_mm: float) -> float:
        look = replace(PLAIN, detector=Detector(4000.0, 0.0, 0.0, 0.0))
        scene = limb(200, int(180 / spacing_mm), spacing_mm)
        quiet = expose(scene, PLAIN, np.random.default_rng(0))
        noisy = expose(scene, look, np.random.default_rng(0))
        middle = slice(scene.soft_mm.shape[1] // 2 - 10, scene.soft_mm.shape[1] // 2 + 10)
        return float((noisy - quiet)[20:180, middle].std())

    assert noise(0.4) / noise(0.8) == pytest.approx(2.0, rel=0.25)


def test_metal_is_white_and_lies_where_it_was_put():
    for kind in HARDWARE:
        film = expose(limb(), replace(PLAIN, hardware=kind), np.random.default_rng(2))
        bare = expose(limb(), PLAIN, np.random.default_rng(2))
        assert (film > 0.98).sum() > (bare > 0.98).sum()
    metal = np.zeros((100, 100), np.float32)
    props.add_rod(metal, 1.0, (20.0, 50.0), (80.0, 50.0), 10.0)
    assert metal[49:51, 50].mean() == pytest.approx(10.0, rel=0.01)
    assert metal[:, :19].sum() == 0
    assert metal[:44].sum() == 0
    assert metal.sum() == pytest.approx(np.pi * 5**2 * 60, rel=0.02)


def test_hardware_leaves_the_joint_line_free_and_a_replacement_does_not():
    knee = Knee((150.0, 150.0), 90.0)
    joint = (slice(144, 157), slice(110, 190))
    for kind in HARDWARE:
        for seed in range(20):
            metal = np.zeros((300, 300), np.float32)
            props.add_hardware(metal, 0.9, knee, kind, np.random.default_rng(seed))
            assert metal.any()
            assert metal[joint].sum() == 0, kind
    metal = np.zeros((300, 300), np.float32)
    props.add_knee_replacement(metal, 0.9, knee, np.random.default_rng(0))
    assert (metal[120:170, 110:190] > 0).mean() > 0.3


def test_the_collimator_hides_the_border_bright_or_under_the_shutter_but_never_the_knee():
    margins = (0.3, 0.2, 0.3, 0.2)
    for shutter, grey in ((None, 1.0), (0.0, 0.0), (0.05, 0.05)):
        look = replace(PLAIN, collimation=Collimation(margins, 0.0, 2.0, 1e-4, shutter))
        film = expose(limb(), look, np.random.default_rng(0))
        assert film[2, 2] == pytest.approx(grey, abs=0.02)
        np.testing.assert_allclose(film[-3:, -3:], grey, atol=0.02)
        scene = limb()
        open_field = expose(scene, PLAIN, np.random.default_rng(0))
        (x, y), reach = scene.knees[0].centre_px, int(0.6 * scene.knees[0].width_px)
        knee = slice(int(y) - reach, int(y) + reach), slice(int(x) - reach, int(x) + reach)
        assert np.corrcoef(film[knee].ravel(), open_field[knee].ravel())[0, 1] > 0.99


def test_labels_stay_off_the_knee_and_burned_in_ones_are_white():
    look = replace(PLAIN, labels=tuple(props.Label(t, 12.0) for t in ("SIDE", "KNEE", "LOGO")))
    scene = limb()
    for seed in range(10):
        film = expose(scene, look, np.random.default_rng(seed))
        plain = expose(scene, PLAIN, np.random.default_rng(seed))
        changed = np.abs(film - plain) > 0.05
        (x, y), radius = scene.knees[0].centre_px, 0.5 * scene.knees[0].width_px
        row, col = np.mgrid[: film.shape[0], : film.shape[1]]
        assert changed.any()
        assert not changed[np.hypot(col - x, row - y) < radius].any()


def test_a_cast_covers_the_limb_and_its_neighbourhood():
    film = expose(limb(), replace(PLAIN, cast_mm=8.0), np.random.default_rng(1))
    bare = expose(limb(), PLAIN, np.random.default_rng(1))
    beside = (slice(120, 180), slice(56, 63))  # just outside the skin
    assert film[beside].mean() > bare[beside].mean()


def test_an_empty_field_gives_a_film_too():
    nothing = np.zeros((64, 48), np.float32)
    rng = np.random.default_rng(0)
    for _ in range(20):
        assert np.isfinite(expose(Limb(nothing, nothing, nothing, 2.0), Look.draw_strong(rng), rng)).all()


@pytest.mark.parametrize("spacing_mm", [0.1, 0.35, 1.0, 3.0])
def test_any_pixel_size_and_odd_shapes_work(spacing_mm):
    rng = np.random.default_rng(0)
    for shape in ((97, 61), (33, 130)):
        film = expose(limb(*shape, spacing_mm), Look.draw(rng), rng)
        assert film.shape == shape
        assert np.isfinite(film).all()


def test_inversion_is_the_complement():
    upright = expose(limb(), PLAIN, np.random.default_rng(0))
    turned = expose(limb(), replace(PLAIN, damage=Damage(inverted=True)), np.random.default_rng(0))
    np.testing.assert_allclose(upright + turned, 1.0, atol=1e-6)


@pytest.mark.parametrize("factor", [1, 2, 5])
def test_a_coarse_grid_keeps_means_and_slopes(factor):
    rows, cols = 43, 37
    ramp = np.add.outer(np.arange(rows), 2.0 * np.arange(cols)).astype(np.float32)
    grid = CoarseGrid((rows, cols), factor)
    means = np.empty(grid.cells, np.float32)
    for first in range(0, rows, 2 * factor):
        grid.pool(ramp[first : first + 2 * factor], means, first)
    assert means[1, 2] == pytest.approx(ramp[factor : 2 * factor, 2 * factor : 3 * factor].mean())
    back = np.concatenate([grid.rows_of(means).block(r, min(r + 7, rows)) for r in range(0, rows, 7)])
    inner = slice(factor, -2 * factor)
    np.testing.assert_allclose(back[inner, inner], ramp[inner, inner], atol=1e-3)


def test_a_film_of_five_million_pixels_costs_little():
    """The budget is 180 ms of one core; a shared machine gets four times as much."""
    scene, rng = limb(2500, 2000, 0.15), np.random.default_rng(0)
    spent = []
    for _ in range(4):
        look = Look.draw(rng)
        begin = time.process_time()
        expose(scene, look, rng)
        spent.append(time.process_time() - begin)
    assert min(spent) < 0.72
