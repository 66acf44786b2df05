"""Two visitors at once: neither ever sees anything of the other's."""

from __future__ import annotations

import contextlib
import io
import json
import re
import socket
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image
from playwright.sync_api import Error as PlaywrightError
from playwright.sync_api import Page, expect
from safetensors.torch import save as save_safetensors

from cnnvis_core.models.catalogue import blueprint
from tests.browser.conftest import ROOT, Server, serve
from tests.browser.visit import nothing_broke, settled, upload, wait_for_map

MODEL = "resnet64-tiny-imagenet"
RATE = 16_000
SIDE = 96
MEDIA = re.compile(rb"/media/[0-9a-f]+\.\w+")


def striped(colour: tuple[int, int, int], seed: int) -> bytes:
    """Stripes of a colour on white, a little different for each seed."""
    picture = np.full((SIDE, SIDE, 3), 255, np.uint8)
    width = 4 + seed % 5
    picture[:, np.arange(SIDE) // width % 2 == 0] = colour
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    return buffer.getvalue()


def weights_of(classes: list[str], seed: int) -> bytes:
    """Random weights that tell the names of their classes, as those of a fine-tuning do."""
    torch.manual_seed(seed)
    state = blueprint(MODEL).build().state_dict()
    count = len(classes)
    state = {k: v[:count].clone() if v.shape[:1] == (200,) else v for k, v in state.items()}
    return save_safetensors(state, {"cnnvis": json.dumps({"classes": classes})})


def send_weights(page: Page, name: str, data: bytes) -> None:
    boxes = page.get_by_test_id("stSidebar").get_by_test_id("stExpander")
    box = boxes.filter(has_text="Your own weights")
    box.get_by_text("Your own weights").click()
    file = {"name": name, "mimeType": "application/octet-stream", "buffer": data}
    box.locator("input[type=file]").set_input_files(file)


@dataclass
class Visitor:
    """A visitor, what they bring, and what reaches their browser.

    Attributes
    ----------
    page : Page
        Their window.
    name : str
        A part of every name that they send.
    colour : tuple of int
        Of every picture that they send.
    pitch : float
        Of the sound that they send, in Hz.
    seed : int
        Of their weights.
    received : list of bytes
        What came through the websocket since it was last looked at.
    """

    page: Page
    name: str
    colour: tuple[int, int, int]
    pitch: float
    seed: int
    received: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        def note(data: str | bytes) -> None:
            self.received.append(data if isinstance(data, bytes) else data.encode())

        self.page.on("websocket", lambda socket: socket.on("framereceived", note))

    def picture(self) -> bytes:
        return striped(self.colour, self.seed)

    def sound(self) -> bytes:
        times = np.arange(RATE) / RATE
        buffer = io.BytesIO()
        soundfile.write(buffer, 0.5 * np.sin(2 * np.pi * self.pitch * times), RATE, format="WAV")
        return buffer.getvalue()

    def collection(self) -> bytes:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            for number in range(8):
                where = f"{self.name}-kind-{number % 2}/{self.name}-{number}.png"
                archive.writestr(where, striped(self.colour, self.seed + number))
        return buffer.getvalue()

    def weights(self) -> bytes:
        return weights_of([f"{self.name}-class-{n}" for n in range(5 + self.seed)], self.seed)

    def bring_weights(self) -> None:
        send_weights(self.page, f"{self.name}-weights.safetensors", self.weights())

    def turn_to(self, title: str) -> None:
        self.page.locator("[data-testid=stSidebarNavLink]").filter(has_text=title).click()

    def sources(self) -> set[str]:
        """Addresses of all pictures and sounds that are drawn."""
        found = (
            self.page.locator("[data-testid=stMain]")
            .locator("img, audio")
            .evaluate_all("parts => parts.map(part => part.currentSrc || part.src)")
        )
        return {source for source in found if "/media/" in source}

    def media(self, sources: Iterable[str]) -> list[tuple[str, bytes]]:
        """Kind and bytes of what lies there."""
        answers = [self.page.request.get(source) for source in sources]
        return [(answer.headers["content-type"], answer.body()) for answer in answers]


def share(data: bytes, colour: tuple[int, int, int]) -> float:
    """Share of a picture that has a colour, or nearly."""
    pixels = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), int)
    return float((abs(pixels - np.array(colour)).max(-1) < 40).mean())


def loudest(data: bytes) -> float:
    """The pitch of a sound, in Hz."""
    samples, rate = soundfile.read(io.BytesIO(data))
    samples = samples if samples.ndim == 1 else samples.mean(1)
    return float(np.fft.rfftfreq(len(samples), 1 / rate)[abs(np.fft.rfft(samples)).argmax()])


@pytest.fixture(scope="module")
def private(tmp_path_factory) -> Iterator[Server]:
    """A server that forgets who left after a second, with a home and a temp folder of its own."""
    folder = tmp_path_factory.mktemp("private")
    for name in ("home", "tmp"):
        (folder / name).mkdir()
    environment = {
        "HOME": str(folder / "home"),
        "TMPDIR": str(folder / "tmp"),
        "STREAMLIT_SERVER_DISCONNECTED_SESSION_TTL": "1",
    }
    with serve(folder, environment=environment) as server:
        yield server


def cancel(page: Page) -> None:
    """Stop what runs; it may have ended meanwhile."""
    with contextlib.suppress(PlaywrightError):
        page.get_by_role("button", name="Cancel").first.click(timeout=3000)


def done(page: Page) -> None:
    settled(page)
    expect(page.get_by_role("button", name="Cancel")).to_have_count(0)
    settled(page)
    nothing_broke(page)


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


def test_two_visitors_at_once_never_see_anything_of_each_other(private, visitor):
    both = two(visitor)
    anna, bert = both
    for one in both:
        one.page.goto(f"{private.url}/occlude?patch64=32&stride64=32&opacity=0")
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


def two(visitor: Callable[[], Page]) -> tuple[Visitor, Visitor]:
    return (
        Visitor(visitor(), "anna-secret", (255, 0, 255), 1000.0, 1),
        Visitor(visitor(), "bert-secret", (0, 255, 0), 3000.0, 2),
    )


def test_what_a_visitor_sent_goes_when_they_have_left(private, visitor):
    anna, bert = two(visitor)
    for one in (anna, bert):
        look_at_own_picture(one, private.url)
    left, stays = anna.sources() - bert.sources(), bert.sources() - anna.sources()
    get = bert.page.request.get
    assert left
    assert {get(source).status for source in left} == {200}
    anna.page.context.close()
    # Nobody else comes or goes meanwhile.
    for _ in range(60):
        if {get(source).status for source in left} == {404}:
            break
        time.sleep(0.5)
    assert {get(source).status for source in left} == {404}
    assert {get(source).status for source in stays} == {200}


def look_at_own_picture(one: Visitor, url: str) -> None:
    one.page.goto(f"{url}/occlude?patch64=32&stride64=32&opacity=0")
    wait_for_map(one.page)
    upload(one.page, f"{one.name}-1.png", "image/png", one.picture())
    expect(one.page.get_by_role("radio", name="Your picture")).to_be_checked()
    wait_for_map(one.page)


def files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_no_file_of_what_a_visitor_sent_is_kept(private, visitor):
    folder = private.report.parent
    began = time.time()
    anna, _ = two(visitor)
    look_at_own_picture(anna, private.url)
    anna.bring_weights()
    expect(anna.page.get_by_text("(your weights): ")).to_be_visible()
    wait_for_map(anna.page)
    sent = (anna.name.encode(), anna.picture()[33:97], anna.weights()[-64:])
    kept = files(folder)
    # Its home and its folder for temporary files are in there, and its log.
    assert folder / "server.log" in kept
    kept |= beside(began)
    assert [path for path, data in kept.items() if any(part in data for part in sent)] == []
    assert [path for path in kept if anna.name in path.name] == []


def beside(since: float) -> dict[Path, bytes]:
    """Files of the folder that the server works in which were written since then."""
    found: dict[Path, bytes] = {}
    for part in ("", "assets", "cnnvis_core", "pages", ".streamlit"):
        for path in (ROOT / part).rglob("*") if part else ROOT.glob("*"):
            if path.is_file() and path.stat().st_mtime >= since:
                found[path] = path.read_bytes()
    return found


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="open files are in /proc (Linux)")
def test_no_upload_passes_through_a_temporary_file(private, visitor):
    page = visitor()
    page.goto(f"{private.url}/occlude?patch64=32&stride64=32&opacity=0")
    wait_for_map(page)
    with page.expect_request(lambda request: request.method == "PUT") as asked:
        upload(page, "a.png", "image/png", striped((255, 0, 255), 1))
    place = urlsplit(asked.value.url)
    part = b'--X\r\nContent-Disposition: form-data; name="f"; filename="b.png"\r\n\r\n'
    begun = part + b"tell-tale" * 2**18
    cookies = "; ".join(f"{kept['name']}={kept['value']}" for kept in page.context.cookies())
    head = {
        "Host": place.netloc,
        "Cookie": cookies,
        "X-Xsrftoken": asked.value.all_headers()["x-xsrftoken"],
        "Content-Type": "multipart/form-data; boundary=X",
        "Content-Length": str(2 * len(begun)),
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
    with socket.create_connection((place.hostname, place.port)) as connection:
        connection.sendall(f"PUT {place.path} HTTP/1.1\r\n{lines}\r\n".encode() + begun)
        # Half of it has come, and the server holds it somewhere.
        for _ in range(20):
            time.sleep(0.1)
            assert not any(b"tell-tale" in data for data in open_files(private.process.pid))


def open_files(process: int) -> Iterator[bytes]:
    """The beginnings of the regular files that a process holds open."""
    for entry in Path(f"/proc/{process}/fd").iterdir():
        with contextlib.suppress(OSError):
            if entry.is_file():
                with entry.open("rb") as file:
                    yield file.read(2**16)


SCRIPT = "<img src=x onerror=window.ran=1><script>window.ran=1</script>"
WORDS = (
    SCRIPT,
    "![leak](http://127.0.0.1:9/leak.png)",
    "[go](http://127.0.0.1:9/)",
    "**bold** $x^2$ :material/bug_report: :red[red]",
    "../../../etc/passwd",
)


def as_text(page: Page, asked: list[str]) -> None:
    """Nothing that a visitor wrote was taken for more than text."""
    settled(page)
    assert page.evaluate("window.ran") is None
    assert not [url for url in asked if "127.0.0.1:9" in url]
    main = page.get_by_test_id("stMain")
    assert main.locator("a[href*=':9'], img[src*=':9'], script, .katex").count() == 0
    nothing_broke(page)


@pytest.fixture
def hostile(visitor) -> tuple[Page, list[str]]:
    page, asked = visitor(), []
    page.on("request", lambda request: asked.append(request.url))
    return page, asked


def test_names_of_files_are_text(private, hostile):
    page, asked = hostile
    page.goto(f"{private.url}/occlude?patch64=32&stride64=32&opacity=0")
    wait_for_map(page)
    for name in (f"{SCRIPT}.png", "..\\![leak](http:127.0.0.1:9).png"):
        upload(page, name, "image/png", striped((255, 0, 255), len(name)))
        expect(page.get_by_role("radio", name="Your picture")).to_be_checked()
        wait_for_map(page)
        as_text(page, asked)
        upload(page, name, "image/png", b"no picture")
        expect(page.get_by_text(re.compile("not a supported"))).to_be_visible()
        as_text(page, asked)


def send_pile(page: Page) -> None:
    """Send a zip whose folders have names that could be taken for more than text."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for number, word in enumerate(WORDS * 2):
            # The last folder is the class; a slash would begin another one.
            name = word if ".." in word else word.replace("/", "")
            archive.writestr(f"{name}/{number}.png", striped((255, 0, 255), number))
    box = page.locator("[data-testid=stMain] [data-testid=stFileUploaderDropzoneInput]")
    file = {"name": "a.zip", "mimeType": "application/zip", "buffer": buffer.getvalue()}
    box.set_input_files(file)


def test_names_of_folders_in_a_zip_are_text(private, hostile):
    page, asked = hostile
    page.goto(f"{private.url}/exemplars?collection=Yours&layer=stem.0")
    send_pile(page)
    expect(page.get_by_text("The strongest of 10 items")).to_be_visible()
    done(page)
    as_text(page, asked)


def test_names_of_folders_are_text_where_one_trains_on_them(private, hostile):
    page, asked = hostile
    page.goto(f"{private.url}/transfer?transfer-view=Fine-tune&collection=Yours")
    send_pile(page)
    expect(page.get_by_text("10 pictures of")).to_be_visible()
    as_text(page, asked)


def test_names_of_classes_are_text(private, hostile):
    page, asked = hostile
    page.goto(f"{private.url}/models")
    settled(page)
    classes = ["".join(WORDS)[:100]] * 3 + list(WORDS) + ["one more"]
    send_weights(page, "a.safetensors", weights_of(classes, 1))
    expect(page.get_by_text("(your weights): ")).to_be_visible()
    for title in ("Gradients", "Occlusion"):
        page.locator("[data-testid=stSidebarNavLink]").filter(has_text=title).click()
        expect(page.get_by_role("heading", name=re.compile("^What carries"))).to_be_visible()
        cancel(page)
        done(page)
        as_text(page, asked)
