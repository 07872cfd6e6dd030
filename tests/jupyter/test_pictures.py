"""What a task displayed, on its card."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from nbtasks.jupyter import pictures
from nbtasks.jupyter.pictures import pictures_of

PNG = base64.b64encode(b"\x89PNG\r\n" + bytes(100)).decode()


def shown(data: dict[str, Any], kind: str = "display_data", **metadata: Any) -> dict[str, Any]:
    return {"output_type": kind, "data": data, "metadata": metadata}


def test_an_image_becomes_a_data_uri_with_a_description() -> None:
    output = shown(
        {"image/png": PNG, "text/plain": "<Figure size 640x480 with 1 Axes>"}, **{"image/png": {"width": 320}}
    )
    (picture,), texts, note = pictures_of([output])
    assert picture.source == f"data:image/png;base64,{PNG}"
    assert picture.alt == "Figure size 640x480 with 1 Axes"
    assert picture.width == 320
    assert (texts, note) == ((), "")


def test_base64_may_have_line_breaks_or_come_as_a_list() -> None:
    lines = [PNG[:40] + "\n", PNG[40:] + "\n"]
    for data in ("".join(lines), lines):
        (picture,), _, _ = pictures_of([shown({"image/png": data})])
        assert picture.source.endswith(PNG)
        assert picture.alt == "image"


def test_a_drawing_is_shown_where_it_can_run_nothing() -> None:
    (picture,), _, _ = pictures_of([shown({"image/svg+xml": "<svg onload='alert(1)'></svg>"})])
    assert picture.source.startswith("data:image/svg+xml;base64,")
    assert "alert" not in picture.source


def test_html_is_shown_as_its_plain_text() -> None:
    assert pictures_of([shown({"text/html": "<table>", "text/plain": "   a  b\n0  1  2"})])[1] == ("   a  b\n0  1  2",)


@pytest.mark.parametrize(
    "data",
    [
        {"image/png": '"><script>alert(1)</script>'},
        {"image/png": "AAAA' onerror='x"},
        {"image/png": 7},
        {"image/png": ""},
        {"image/bmp": PNG},
        {"text/html": "<script>"},
        {"application/javascript": "alert(1)"},
        {},
    ],
)
def test_what_is_no_image_is_not_shown_as_one(data: dict[str, Any]) -> None:
    assert pictures_of([shown(data)]) == ((), (), "")


@pytest.mark.parametrize(
    "output", [{}, {"output_type": "stream", "text": "x"}, {"output_type": "display_data", "data": 3}]
)
def test_other_outputs_are_passed_over(output: dict[str, Any]) -> None:
    assert pictures_of([output]) == ((), (), "")


def test_widths_that_cannot_be_are_left_out() -> None:
    for width in ("100", -5, 1e9, True, float("nan"), None):
        (picture,), _, _ = pictures_of([shown({"image/png": PNG}, **{"image/png": {"width": width}})])
        assert picture.width is None


def test_too_many_images_are_counted() -> None:
    found, _, note = pictures_of([shown({"image/png": PNG})] * 25)
    assert len(found) == 20
    assert note == "5 more images in"


def test_a_great_image_does_not_go_into_the_notebook() -> None:
    great = "A" * (pictures.IMAGE_LIMIT + 4)
    found, _, note = pictures_of([shown({"image/png": great}), shown({"image/png": PNG})])
    assert len(found) == 1
    assert note == "1 more image in"
