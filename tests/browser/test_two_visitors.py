"""Two visitors at once: neither ever sees anything of the other's."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from playwright.sync_api import expect

from tests.browser.tell_tale import Visitor, loudest, share, two
from tests.browser.visit import cancel, done, settled, upload, wait_for_map


def apart(visitors: tuple[Visitor, Visitor], inputs: bool, plain: bool = True) -> None:
    """Each sees what is theirs, and nothing of the other's.

    Parameters
    ----------
    visitors : tuple of Visitor
        Both, on the same page.
    inputs : bool
        Whether the page shows what they sent.
    plain : bool
        Whether it shows it in its own colours.
    """
    drawn = [visitor.sources() for visitor in visitors]
    assert not inputs or (all(drawn) and not drawn[0] & drawn[1])
    for visitor, other, mine, theirs in zip(
        visitors, visitors[::-1], drawn, drawn[::-1], strict=True
    ):
        shown = visitor.page.content()
        received = b"".join(visitor.received)
        assert visitor.name in shown
        assert other.name not in shown
        assert other.name.encode() not in received
        assert not re.search("secret|png|wav|zip", visitor.page.url)
        for source in theirs - mine:
            assert urlsplit(source).path.encode() not in received
        if not inputs:
            continue
        media = visitor.media(mine)
        pictures = [data for kind, data in media if kind.startswith("image/")]
        sounds = [data for kind, data in media if kind.startswith("audio/")]
        # In the window as well, where charts hold pictures of their own.
        pictures.append(visitor.page.screenshot())
        if sounds:
            assert all(abs(loudest(data) - visitor.pitch) < 20 for data in sounds)
        elif plain:
            assert max(share(data, visitor.colour) for data in pictures) > 0.01
        assert max(share(data, other.colour) for data in pictures) < 0.0005


def test_two_visitors_at_once_never_see_anything_of_each_other(server, visitor):
    both = two(visitor)
    anna, bert = both
    for one in both:
        one.page.goto(f"{server.url}/occlude?patch64=32&stride64=32&opacity=0")
    for one in both:
        wait_for_map(one.page)
    for one in both:
        one.bring_weights()
    for one in both:
        expect(one.page.get_by_text("(your weights): ")).to_be_visible()
        upload(one.page, f"{one.name}-1.png", "image/png", one.picture())
    for one in both:
        expect(one.page.get_by_role("radio", name="Your picture")).to_be_checked()
        expect(one.page.get_by_role("heading", name=f"“{one.name}-class-")).to_be_visible()
        wait_for_map(one.page)
    apart(both, True)
    for title, inputs, stopped in (
        ("Feature maps", True, ()),
        ("Kernels", False, ()),
        ("Gradients", True, (anna,)),
        ("Models", False, ()),
        ("Maximisation", False, (bert,)),
        ("Orientation", False, (anna,)),
    ):
        for one in both:
            one.turn_to(title)
        for one in both:
            expect(one.page.get_by_role("heading", name=title, exact=True)).to_be_visible()
        for one in stopped:
            cancel(one.page)
        for one in both:
            done(one.page)
        apart(both, inputs, plain=title != "Feature maps")
    look_through_collections(both)
    addresses = [one.page.url for one in both]
    train(both)
    addresses += [one.page.url for one in both]
    for one in both:
        one.turn_to("Start")
        expect(one.page.get_by_role("heading", name="cnnvis")).to_be_visible()
    for one in both:
        done(one.page)
    apart(both, False)
    hear(both)
    addresses += [one.page.url for one in both]
    # The names would have been found, had they been sent: each got their own.
    for one in both:
        assert f"{one.name}-class-".encode() in b"".join(one.received)
    follow(addresses, Visitor(visitor(), "carl-secret", (0, 255, 255), 500.0, 3), both)


def look_through_collections(both: tuple[Visitor, Visitor]) -> None:
    for one in both:
        one.turn_to("Exemplars")
        one.page.get_by_text("Yours", exact=True).click()
        expect(one.page.get_by_text("Drop pictures here")).to_be_visible()
    for one in both:
        box = one.page.locator("[data-testid=stMain] [data-testid=stFileUploaderDropzoneInput]")
        name = f"{one.name}-pile.zip"
        box.set_input_files(
            {"name": name, "mimeType": "application/zip", "buffer": one.collection()}
        )
    for one in both:
        expect(one.page.get_by_text("The strongest of 8 items")).to_be_visible()
        done(one.page)
        expect(one.page.get_by_alt_text(re.compile(f"{one.name}-kind-")).first).to_be_visible()
    apart(both, True)


def train(both: tuple[Visitor, Visitor]) -> None:
    for one in both:
        one.turn_to("Transfer")
        one.page.get_by_text("Fine-tune", exact=True).click()
        one.page.get_by_text("Yours", exact=True).click()
    for one in both:
        expect(one.page.get_by_text(f"8 pictures of {one.name}-kind-0")).to_be_visible()
        one.page.get_by_role("button", name="Train").click()
    cancel(both[0].page)
    for one in both:
        done(one.page)
    expect(both[1].page.get_by_text("Best after epoch")).to_be_visible()
    apart(both, False)


def hear(both: tuple[Visitor, Visitor]) -> None:
    for one in both:
        one.turn_to("Occlusion")
        # A click on the way to another page leads back.
        expect(one.page.get_by_role("heading", name="Occlusion", exact=True)).to_be_visible()
        settled(one.page)
        one.page.get_by_test_id("stSidebar").get_by_text("Sound", exact=True).click()
        wait_for_map(one.page)
    for one in both:
        upload(one.page, f"{one.name}-2.wav", "audio/wav", one.sound())
    for one in both:
        expect(one.page.get_by_role("radio", name="Your sound")).to_be_checked()
        wait_for_map(one.page)
    apart(both, True)


def follow(addresses: list[str], guest: Visitor, both: tuple[Visitor, Visitor]) -> None:
    """Whoever opens a copied address sees nothing of who sent it."""
    theirs = set().union(*(one.sources() for one in both))
    for address in addresses:
        guest.page.goto(address)
        settled(guest.page)
        done(guest.page)
        received = b"".join(guest.received)
        mine = guest.sources()
        assert not mine & theirs
        pictures = [data for kind, data in guest.media(mine) if kind.startswith("image/")]
        for one in both:
            assert one.name not in guest.page.content()
            assert one.name.encode() not in received
            assert all(share(data, one.colour) < 0.0005 for data in pictures)
