"""Visitors whose pictures, sounds, weights and names tell whose they are."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np
import soundfile
import torch
from PIL import Image
from playwright.sync_api import Page
from safetensors.torch import save as save_safetensors

from cnnvis_core.models.catalogue import blueprint
from tests.browser.visit import box_in_sidebar, upload

MODEL = "resnet64-tiny-imagenet"
RATE = 16_000
SIDE = 96


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
    box = box_in_sidebar(page, "Your own weights")
    upload(page, name, "application/octet-stream", data, where=box)


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


def two(visitor: Callable[[], Page]) -> tuple[Visitor, Visitor]:
    return (
        Visitor(visitor(), "anna-secret", (255, 0, 255), 1000.0, 1),
        Visitor(visitor(), "bert-secret", (0, 255, 0), 3000.0, 2),
    )


def share(data: bytes, colour: tuple[int, int, int]) -> float:
    """Share of a picture that has a colour, or nearly."""
    pixels = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), int)
    return float((abs(pixels - np.array(colour)).max(-1) < 40).mean())


def loudest(data: bytes) -> float:
    """The pitch of a sound, in Hz."""
    samples, rate = soundfile.read(io.BytesIO(data))
    samples = samples if samples.ndim == 1 else samples.mean(1)
    return float(np.fft.rfftfreq(len(samples), 1 / rate)[abs(np.fft.rfft(samples)).argmax()])
