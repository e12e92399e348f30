"""A bundle in words, row by row, so that the panel can say it in the language of the application."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from .words import mark as _
from .words import tell

if TYPE_CHECKING:
    from .bundle import Bundle

FIRST_LINES = (
    _("This bundle has never seen a real child: it was trained on a phantom only and is for demonstration."),
)
"""First lines that bundles of this project carry; others are said as they stand."""
INDENT = 14


class Row(NamedTuple):
    """One fact of a bundle: a sentence with its values apart; what the bundle's author wrote is a value."""

    label: str
    sentence: str
    values: Mapping[str, Any]


def rows(bundle: Bundle) -> Iterator[Row]:
    """What the card tells, in order, after its first line."""
    facts = bundle.manifest
    net, data, calibration = facts.architecture, facts.training_data, facts.calibration
    finder = (f"{key} {value}" for key, value in net.finder.items() if isinstance(value, str | int))
    yield Row(_("Bundle"), _("{name}, made {created}"), {"name": facts.name, "created": facts.created})
    yield _plain(_("Intended use"), facts.intended_use)
    yield _plain(_("Licence"), facts.licence)
    yield _plain(_("Trained on"), data.description)
    yield _children(data)
    if data.phantom_seeds:
        yield _plain(_("Phantom seeds"), ", ".join(map(str, data.phantom_seeds)))
    network = {"folds": net.folds, "backbone": net.network.backbone, "size": net.network.image_size}
    sentence = _("{folds} x {backbone} at {size} px on {inputs}")
    yield Row(_("Networks"), sentence, {**network, "inputs": ", ".join(net.inputs)})
    yield _plain(_("Finder"), ", ".join(finder))
    scale = {"first": net.months_from, "last": net.months_to, "bins": net.network.bins}
    yield Row(_("Scale"), _("{first:g} to {last:g} months in {bins} bins"), scale)
    interval = {"level": calibration.sex_age.level, "target": calibration.sex_age.target}
    yield Row(_("Intervals"), _("{level:.0%} of {target} bone ages, by age band"), interval)
    for sex, months in (calibration.mature_from_months or {}).items():
        yield Row(_("Mature"), _("from {months:g} months on ({sex})"), {"months": months, "sex": sex})
    if facts.closure_file:
        yield Row(_("Mature"), _("where the physes of femur and tibia look closed"), {})
    for metric in facts.metrics:
        figure = f"{metric.name} {metric.value:g} {metric.unit}".rstrip()
        yield _plain(_("Measured"), f"{figure}  {metric.data}".rstrip())
    size = sum(entry.bytes for entry in facts.files.values()) / 1e6
    yield Row(_("Size"), _("{size:.1f} MB"), {"size": size})
    yield _plain(_("SHA-256"), bundle.sha256)


def in_words(first_line: str, rows: list[Row]) -> str:
    """The card in the language of the application, a line a row; labels are padded for letters of one width."""
    lines = [f"{tell(row.label):<{INDENT}}{tell(row.sentence, **row.values)}" for row in rows]
    return "\n".join([tell(first_line), "", *lines])


def _plain(label: str, text: str) -> Row:
    return Row(label, "{text}", {"text": text})


def _children(data: Any) -> Row:
    values = {"children": data.children, "real": data.real_children, "films": data.films}
    return Row(_("Children"), _("{children}, of them real: {real}; films: {films}"), values)
