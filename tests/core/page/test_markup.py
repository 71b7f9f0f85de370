"""HTML: text is escaped wherever it comes from, and what is HTML already is not escaped twice."""

from dreamer_core.page.markup import Html, joined, tag


def test_text_and_attributes_are_escaped_and_html_is_not():
    inner = tag("b", "<script>")
    found = tag("p", inner, " & ", title='"><img>', class_="a", hidden=None)
    assert found == ('<p title="&quot;&gt;&lt;img&gt;" class="a"><b>&lt;script&gt;</b> &amp; </p>')
    assert isinstance(found, Html)


def test_a_part_that_is_none_is_left_out():
    assert joined(["a", None, 3]) == "a3"


def test_attributes_without_a_value_and_numbers():
    assert tag("details", open=True, tabindex=0) == '<details open tabindex="0"></details>'
    assert tag("line", x1=0.5) == '<line x1="0.5"/>'
    assert tag("br") == "<br>"
