from __future__ import annotations

import pytest

from caravan.pages.plots import INK, new_figure, strip, svg
from caravan.pages.style import environment, framed, percent


def drawn() -> str:
    figure = new_figure(3, 2)
    axes = figure.add_subplot()
    axes.barh([0, 1], [0.5, 1])
    strip(axes, "shares")
    return svg(figure, 'a "plot" & more')


def test_a_plot_takes_the_colour_of_the_page_and_is_the_same_each_time() -> None:
    text = drawn()
    assert text.startswith('<svg role="img" aria-label="a &quot;plot&quot; &amp; more"')
    assert "currentColor" in text
    assert INK not in text
    assert ">shares<" in text
    assert drawn() == text


def test_a_page_escapes_what_it_is_given_and_markdown_does_not() -> None:
    template = framed("t", "{{ words }} {{ share | percent }}", "p { color: red; }")
    text = environment().from_string(template).render(words="<b>", share=0.125)
    assert "&lt;b&gt; 12.5 %" in text
    assert "prefers-color-scheme: dark" in text
    assert "p { color: red; }" in text
    assert environment(html=False).from_string("{{ words }}").render(words="<b>") == "<b>"


@pytest.mark.parametrize(("value", "words"), [(None, "–"), (0.0, "0.0 %"), (1, "100.0 %")])
def test_shares_are_told_as_percent(value: float | None, words: str) -> None:
    assert percent(value) == words
