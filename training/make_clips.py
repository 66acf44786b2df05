"""Synthesise the sample clips that ship with the project.

    python -m training.make_clips

Every clip is 5 s of 32 kHz mono, made with numpy from a fixed seed by simple physics; nothing is
recorded. They go to ``assets/samples``.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import soundfile as sf
from numpy.typing import NDArray

from training.common import ROOT

RATE = 32000
SECONDS = 5.0
LENGTH = int(RATE * SECONDS)
OUT = ROOT / "assets" / "samples"
STEP = 32 / 32768  # noise coarser than 16 bits, which FLAC then packs into under 200 KB

Wave = NDArray[np.float64]


def shape_spectrum(wave: Wave, response: Callable[[Wave], Wave]) -> Wave:
    """Filter a wave by a gain that depends on the frequency in Hz."""
    hz = np.fft.rfftfreq(len(wave), 1 / RATE).astype(np.float64)
    filtered: Wave = np.fft.irfft(np.fft.rfft(wave) * response(hz), len(wave))
    return filtered


def band(low: float, high: float, slope: float = 2.0) -> Callable[[Wave], Wave]:
    """Gain of a band-pass with soft edges, ``slope`` times 6 dB an octave."""

    def response(hz: Wave) -> Wave:
        rising = 1 / np.sqrt(1 + (low / np.maximum(hz, 1.0)) ** (2 * slope))
        return np.asarray(rising / np.sqrt(1 + (hz / high) ** (2 * slope)))

    return response


def noise(rng: np.random.Generator, low: float, high: float, slope: float = 2.0) -> Wave:
    """Five seconds of band-limited noise with an rms of 1."""
    wave = shape_spectrum(rng.standard_normal(LENGTH), band(low, high, slope))
    return wave / np.sqrt(np.mean(wave**2))


def add(out: Wave, piece: Wave, seconds: float) -> None:
    """Add a piece to a wave from a moment on; what hangs over the end is dropped."""
    start = int(seconds * RATE)
    end = min(start + len(piece), len(out))
    out[start:end] += piece[: end - start]


def ring(modes: list[tuple[float, float, float]], seconds: float) -> Wave:
    """Struck object: modes of (Hz, gain, decay time in seconds), each a damped sine."""
    t = np.arange(int(seconds * RATE)) / RATE
    parts = [gain * np.exp(-t / decay) * np.sin(2 * np.pi * hz * t) for hz, gain, decay in modes]
    return np.sum(parts, axis=0)


def clock_tick(rng: np.random.Generator) -> Wave:
    """Make a wooden clock: an escapement strikes twice a second, tick and tock in turn."""
    out = 0.0006 * noise(rng, 80, 3000, 1.0)
    for beat in range(10):
        tone = 1.0 if beat % 2 else 0.86
        modes = [
            (1450 * tone, 0.5, 0.012),
            (2600 * tone, 1.0, 0.008),
            (4300 * tone, 0.8, 0.005),
            (7100 * tone, 0.5, 0.003),
            (9800 * tone, 0.3, 0.002),
        ]
        # The pallet drops, then the wheel locks: two strokes 12 ms apart.
        for delay, gain in ((0.0, 0.35), (0.012, 1.0)):
            loud = 0.22 * gain * rng.uniform(0.9, 1.1)
            add(out, loud * ring(modes, 0.1), 0.2 + 0.5 * beat + delay)
    return out


def rain(rng: np.random.Generator) -> Wave:
    """Make steady rain: a hiss of far drops and thousands of near ones."""
    out = 0.05 * noise(rng, 400, 9000, 1.0)
    t = np.arange(int(0.006 * RATE)) / RATE
    for moment in rng.uniform(0, SECONDS, 4000):
        hz, decay = rng.uniform(1500, 9000), rng.uniform(0.0005, 0.002)
        loud = 0.03 * rng.pareto(2.5)
        drop = np.exp(-t / decay) * np.sin(2 * np.pi * hz * t + rng.uniform(0, 6.28))
        add(out, min(loud, 0.25) * drop, moment)
    return out


def sea_waves(rng: np.random.Generator) -> Wave:
    """Make the sea: each wave swells as a rumble, breaks bright and runs out as a hiss."""
    t = np.arange(LENGTH) / RATE
    out = 0.02 * noise(rng, 60, 900, 1.0)
    for crest in (1.3, 4.1):
        before, after = np.minimum(t - crest, 0), np.maximum(t - crest, 0)
        out += 0.10 * np.exp(before / 0.6 - after / 0.9) * noise(rng, 80, 900, 1.0)
        out += 0.06 * np.exp(before / 0.35 - after / 0.8) * noise(rng, 600, 4000, 1.0)
        out += 0.02 * np.exp(before / 0.25 - after / 1.2) * noise(rng, 2500, 9000, 1.0)
    return out


def crackling_fire(rng: np.random.Generator) -> Wave:
    """Make a wood fire: a soft roar, and gas pockets that burst at random."""
    out = 0.006 * noise(rng, 50, 400, 1.5) + 0.0012 * noise(rng, 400, 6000, 1.0)
    for moment in rng.uniform(0, SECONDS, 140):
        decay = rng.uniform(0.0004, 0.004)
        piece = rng.standard_normal(int(8 * decay * RATE))
        piece *= np.exp(-np.arange(len(piece)) / (decay * RATE))
        add(out, min(0.012 * (1 + rng.pareto(1.1)), 0.35) * piece, moment)
    return out


def rooster(rng: np.random.Generator) -> Wave:
    """Make a rooster: a buzzing syrinx behind a throat, cock-a-doodle-doo."""
    # (start, length, Hz at the start, the middle and the end, loudness)
    syllables = (
        (0.5, 0.20, 520, 640, 600, 0.6),
        (0.78, 0.28, 640, 860, 820, 0.8),
        (1.12, 0.30, 800, 900, 820, 0.9),
        (1.48, 1.30, 760, 980, 560, 1.0),
    )
    out = np.zeros(LENGTH)
    for start, seconds, first, middle, last, loud in syllables:
        t = np.arange(int(seconds * RATE)) / RATE
        u = t / seconds
        hz = np.interp(u, [0, 0.35, 0.75, 1], [first, middle, 0.96 * middle, last])
        hz = hz * (1 + 0.012 * np.sin(2 * np.pi * 28 * t))
        phase = 2 * np.pi * np.cumsum(hz) / RATE
        tone = np.zeros(len(t))
        for k in range(1, 14):
            f = hz * k
            throat = np.exp(-(((f - 1700) / 700) ** 2)) + 0.6 * np.exp(-(((f - 3300) / 900) ** 2))
            tone += (throat + 0.05 / k) * np.sin(k * phase + k)
        breath = rng.standard_normal(len(t)) * 0.05
        envelope = np.minimum(1, u / 0.12) * np.minimum(1, (1 - u) / 0.2)
        add(out, 0.16 * loud * envelope * (tone + breath), start)
    # The yard answers: a few soft echoes.
    for delay, gain in ((0.06, 0.18), (0.11, 0.10), (0.19, 0.06)):
        shifted = np.zeros(LENGTH)
        add(shifted, gain * out, delay)
        out = out + shifted
    return out + 0.0008 * noise(rng, 100, 4000, 1.0)


def rain_then_clock(rng: np.random.Generator) -> Wave:
    """Join rain and the clock in time, with a fade of 20 ms, the clock from 2.5 s on."""
    t = np.arange(LENGTH) / RATE
    share = np.clip((t - 2.49) / 0.02, 0, 1)
    return (1 - share) * rain(rng) + share * clock_tick(rng)


CLIPS: dict[str, Callable[[np.random.Generator], Wave]] = {
    "clock_tick": clock_tick,
    "rain": rain,
    "sea_waves": sea_waves,
    "crackling_fire": crackling_fire,
    "rooster": rooster,
    "rain_then_clock": rain_then_clock,
}


def make(name: str) -> Wave:
    """Synthesise one clip (160000,) in [-1, 1]; the same on every call."""
    wave = CLIPS[name](np.random.default_rng(2026))
    return np.clip(np.round(wave / STEP) * STEP, -1, 1 - STEP)


def main() -> None:
    """Write all clips."""
    OUT.mkdir(parents=True, exist_ok=True)
    for name in CLIPS:
        path = OUT / f"{name}.flac"
        sf.write(path, make(name), RATE, subtype="PCM_16")
        print(path.name, path.stat().st_size)


if __name__ == "__main__":
    main()
