"""Words that are not ours are shown as they are."""

from __future__ import annotations

import re

import pytest

from cnnvis_core.ui.text import plain


@pytest.mark.parametrize(
    "words",
    [
        "espresso", "hen-of-the-woods, hen", "3 × 3", "100 %", "**bold**", "`code`", "a_b_c",
        "![x](http://a.b)", "<b>", ":red[x]", ":material/home:", "$x$", "# head", "a|b", "~~s~~",
        "back\\slash", "tab\tand\nline", "www.a.b", "me@a.b",
    ],
)  # fmt: skip
def test_what_is_read_is_what_stood_there(words):
    shown = re.sub(r"\\(.)", r"\1", plain(words)).replace("\u2060", "")
    assert shown == " ".join(words.split())


def test_nothing_that_markup_begins_with_is_left():
    text = plain("a*b_c`d[e]f<g>h!i$j~k|l#m:n\\o http://p www.q")
    bare = re.sub(r"\\.", "", text)
    assert not re.search(r"[*_`\[\]<>!$~|#\\]", bare)
    assert "://" not in bare
    assert "www." not in bare
