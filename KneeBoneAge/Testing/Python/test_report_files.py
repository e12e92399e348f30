"""Files of a report stay whole when a run is stopped and say what the answer had to do without."""

import csv
import io
import json
import re

import numpy as np
from PIL import Image
from report_knees import CROP, RUN, Knee, make_film, records

from KneeBoneAgeLib.report import pictures
from KneeBoneAgeLib.report.files import JsonLines, Table
from KneeBoneAgeLib.report.page import Page
from KneeBoneAgeLib.report.records import RESEARCH_ONLY, error_result


def test_json_and_csv_are_whole_after_each_film(tmp_path):
    lines, table = JsonLines(tmp_path / "new" / "a.jsonl"), Table(tmp_path / "a.csv")
    for count in (1, 2):
        results = records(make_film(), Knee(), Knee())
        lines.write(results)
        table.write(results)
        written = (tmp_path / "new" / "a.jsonl").read_text()
        assert written.endswith("\n")
        assert len([json.loads(line) for line in written.splitlines()]) == 2 * count
        rows = list(csv.DictReader(io.StringIO((tmp_path / "a.csv").read_text())))
        assert len(rows) == 2 * count
    lines.close()
    table.close()
    assert (rows[0]["x0"], rows[0]["interval_high_months"], rows[0]["mature"]) == ("100.0", "127.0", "false")


def test_csv_cells_with_commas_and_missing_values_stay_in_their_columns(tmp_path):
    with Table(tmp_path / "a.csv") as table:
        table.write([error_result('odd, "name".dcm', "cut short,\nreally", RUN)])
    (row,) = csv.DictReader((tmp_path / "a.csv").open(newline=""))
    assert (row["file"], row["reason"], row["x0"], row["status"]) == (
        'odd, "name".dcm',
        "cut short,\nreally",
        "",
        "error",
    )


def test_the_page_carries_its_pictures_and_escapes_what_it_shows(tmp_path):
    with Page(tmp_path / "report.html", RUN) as page:
        results = records(make_film(), Knee(reason="<script>alert(1)</script>"))
        panel = pictures.panel(make_film().pixels, CROP, results[0], RUN)
        page.write(results, film=pictures.jpeg(panel), knees=[pictures.png(panel)])
    text = (tmp_path / "report.html").read_text()
    assert "<script>" not in text
    assert "data:image/jpeg;base64," in text
    assert "data:image/png;base64," in text
    assert "http" not in text
    assert RESEARCH_ONLY in text
    assert "never seen a real child" in text


def test_page_and_picture_say_what_the_answer_had_to_do_without(tmp_path):
    told = []
    for sex, age in ((None, None), ("F", None), (None, 100.0), ("F", 100.0)):
        (result,) = records(make_film(sex=sex, age_months=age), Knee())
        with Page(tmp_path / "report.html", RUN) as page:
            page.write([result])
        text = (tmp_path / "report.html").read_text()
        unknown = re.search("<th>Unknown</th><td>(.*?)</td>", text)
        told.append(unknown[1] if unknown else None)
        assert ("unknown" in pictures._details(result)) == (unknown is not None)
    assert told == ["sex and chronological age", "chronological age", "sex", None]


def test_pictures_of_a_report_say_in_their_header_that_they_are_no_film():
    content = pictures.png(Image.new("RGB", (8, 8)))
    assert pictures.PICTURE_MARK.encode() in content[:512]
    assert Image.open(io.BytesIO(content)).size == (8, 8)


def test_a_patch_is_kept_with_sixteen_bits():
    picture = Image.open(io.BytesIO(pictures.png_patch(np.array([[0.0, 0.5], [1.0, 2.0]]))))
    assert np.asarray(picture).tolist() == [[0, 32768], [65535, 65535]]
