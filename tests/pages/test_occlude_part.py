"""Measuring only a part of the input, and the approximate mode, on the page."""

from __future__ import annotations

from streamlit.testing.v1 import AppTest

from tests.pages.test_pages import captions, open_page


def toggle(app: AppTest, key: str) -> None:
    app.toggle(key=key).set_value(True).run()
    assert not app.exception
    assert not app.error


def test_only_the_places_inside_a_box_are_measured():
    app = open_page("occlude")
    toggle(app, "part64")
    app.slider(key="rows64").set_value((0, 32)).run()
    app.slider(key="cols64").set_value((32, 64)).run()
    # Patches of 12 every 4: middles at 6, 10 ... 30 and at 34 ... 58.
    assert "49 positions" in captions(app)
    assert "Drop of the probability" in captions(app)
    assert not app.error


def test_a_box_is_part_of_a_link():
    app = open_page("occlude", part64="true", rows64=["0", "32"], cols64=["32", "64"])
    assert app.toggle(key="part64").value
    assert app.slider(key="rows64").value == (0, 32)
    assert "49 positions" in captions(app)


def test_an_empty_range_is_its_nearest_place():
    app = open_page("occlude", part64="true")
    app.slider(key="rows64").set_value((20, 20)).run()
    app.slider(key="cols64").set_value((64, 64)).run()
    assert not app.error
    assert "positions" in captions(app)


def test_a_part_of_a_sound_is_measured():
    app = open_page("occlude", kind="Sound")
    toggle(app, "part-s")
    app.slider(key="cols-s").set_value((1.0, 2.0)).run()
    assert not app.error
    assert not app.exception
    assert "Drop of the probability" in captions(app)


def test_the_approximate_mode_says_how_much_it_measured():
    app = open_page("occlude")
    assert "Approximate" not in captions(app)
    app.slider(key="stride64").set_value(1).run()
    toggle(app, "adaptive")
    assert "Approximate" in captions(app)
    assert "of 2,809 places were measured" in captions(app)
