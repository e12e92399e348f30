"""What the library keeps in Slicer's scene, and the one place that knows MRML.

film ↔ volume (`films`) → knee ↔ markups ROI (`squares`, `geometry`) → answers and their table (`results`) → saliency

Everything lives in the nodes, so that a saved scene brings it back. Links are node references; what we know is
JSON in attributes that begin with ``KneeBoneAge.``, and never a patient's name or number. What needs no MRML stands
in `scene_values`.

A crop travels as the dictionary `Crop`, in the film's continuous pixels. The ROI node rounds places to float32 and
has no lean, so the crop that was put into it is kept beside it and taken as long as nobody has moved the ROI.
"""

from ..scene_values import FACT_NAMES, Crop, Facts
from .films import (
    check_volume,
    facts,
    file_of,
    film_request,
    fit_window,
    pixels_of,
    reset_fact,
    set_fact,
    store_read,
)
from .nodes import film_of, is_saliency, saliency_of
from .results import (
    Knee,
    append_record,
    append_row,
    asked_of,
    csv_text,
    distribution_of,
    is_out_of_date,
    look,
    request_key,
    result,
    results_table,
    store_result,
    table_columns,
)
from .saliency import method_of, saliency_is_out_of_date, saliency_maps, show_saliency
from .squares import (
    add_knee,
    can_reset,
    can_undo,
    crop_of,
    forget_undo,
    keep_square,
    knees,
    notes_of,
    put_crop,
    remove,
    reset,
    set_side,
    take_found,
    undo,
)

__all__ = [
    "FACT_NAMES",
    "Crop",
    "Facts",
    "Knee",
    "add_knee",
    "append_record",
    "append_row",
    "asked_of",
    "can_reset",
    "can_undo",
    "check_volume",
    "crop_of",
    "csv_text",
    "distribution_of",
    "facts",
    "file_of",
    "film_of",
    "film_request",
    "fit_window",
    "forget_undo",
    "is_out_of_date",
    "is_saliency",
    "keep_square",
    "knees",
    "look",
    "method_of",
    "notes_of",
    "pixels_of",
    "put_crop",
    "remove",
    "request_key",
    "reset",
    "reset_fact",
    "result",
    "results_table",
    "saliency_is_out_of_date",
    "saliency_maps",
    "saliency_of",
    "set_fact",
    "set_side",
    "show_saliency",
    "store_read",
    "store_result",
    "table_columns",
    "take_found",
    "undo",
]
