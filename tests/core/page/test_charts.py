"""Charts: where points stand, round ticks, far references."""

import itertools
import re

import pytest

from dreamer_core.page.charts import Curve, Reference, Span, interval_chart, line_chart, ticks
from tests.core.page.examples import Parsed


def drawn(*curves, **options):
    found = line_chart(curves, name="n", x_title="frames", y_title="return", **options)
    return found, Parsed(found)


def places(svg):
    (points,) = re.findall(r'<polyline[^>]*points="([^"]*)"|points="([^"]*)"', svg)[0:1]
    words = next(each for each in points if each)
    return [tuple(map(float, pair.split(","))) for pair in words.split()]


def test_ticks_are_round_and_within():
    assert ticks(0, 1, 5) == [0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert ticks(-21, 20, 5) == [-20, -10, 0, 10, 20]
    assert ticks(0, 16_000, 5) == [0, 5_000, 10_000, 15_000]


def test_a_line_goes_up_where_values_grow_and_right_where_frames_do():
    svg, _ = drawn(Curve(points=[(0, 0), (100, 10), (200, 5)], label="a"))
    (x0, y0), (x1, y1), (x2, y2) = places(svg)
    assert x0 < x1 < x2 and x1 - x0 == pytest.approx(x2 - x1, abs=0.2)
    assert y1 < y2 < y0 and y0 - y2 == pytest.approx(y2 - y1, abs=0.2)


def test_factors_are_alike_on_a_logarithmic_axis():
    svg, parsed = drawn(Curve(points=[(0, 1), (1, 10), (2, 100)], label="a"), may_be_log=True)
    ys = [y for _, y in places(svg)]
    assert ys[0] - ys[1] == pytest.approx(ys[1] - ys[2], abs=0.2)
    assert "return, logarithmic" in parsed.text


def test_a_far_reference_is_named_at_the_edge_and_leaves_the_data_its_height():
    curve = Curve(points=[(0, -21), (1, -20)], label="a")
    references = [Reference(-21, "random"), Reference(20, "paper")]
    svg, parsed = drawn(curve, references=references)
    assert "random -21" in parsed.text and "↑ paper 20" in parsed.text
    assert svg.count('class="reference"') == 1


def test_labels_of_references_do_not_cover_each_other():
    curve = Curve(points=[(0, 0), (1, 100)], label="a")
    levels = {"gamer": 100, "paper": 99, "random": 98, "record": 1e6}
    svg, _ = drawn(curve, references=[Reference(x, name) for name, x in levels.items()])
    ys = sorted(float(y) for y in re.findall(r'y="([\d.]+)" class="end note"', svg))
    assert len(ys) == 4 and min(b - a for a, b in itertools.pairwise(ys)) > 10


def test_a_chart_tells_in_words_where_its_curves_end():
    _, parsed = drawn(Curve(points=[(0, 1), (1, 2.5)], label="atari"))
    assert "atari ends at 2.5" in parsed.text


def test_without_points_it_says_so_and_one_point_is_a_dot():
    assert "nothing was reported yet" in drawn()[1].text
    assert "<circle" in drawn(Curve(points=[(5, 5)], label="a"))[0]


def test_equal_values_and_equal_frames_have_an_axis_too():
    svg, _ = drawn(Curve(points=[(0, 3), (0, 3)], label="a"))
    assert "nan" not in svg


def test_an_interval_is_a_bar_and_a_value_a_line():
    spans = [Span(label="a<b", value=0.5, low=0.2, high=0.9, color=0), Span(label="c", value=1)]
    svg = interval_chart(spans, name="n", x_title="x")
    parsed = Parsed(svg)
    assert svg.count('class="span c0"') == 1 and svg.count('class="value') == 2
    assert "a<b 0.500, 95% interval 0.200 to 0.900; c 1.000" in parsed.text
