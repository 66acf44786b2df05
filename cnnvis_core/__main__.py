"""Long work from a command line: ``python -m cnnvis_core --help``."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import cnnvis_core as cv
from cnnvis_core.exemplars.cluster import Cluster
from cnnvis_core.exemplars.export import as_json
from cnnvis_core.limits import limits
from cnnvis_core.models.catalogue import of_this_server

Result = TypeVar("Result")
Preview = TypeVar("Preview")

DONE, REFUSED, STOPPED = 0, 1, 130
BAR = 30  # characters
CONVOLUTIONS, ALL = "convolutions", "all"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code.

    0 when done, 1 where something cannot be used, 2 for a wrong call, 130 when stopped by hand.

    Parameters
    ----------
    arguments : sequence of str, optional
        By default those of the process.
    """
    asked = _parser().parse_args(arguments)
    try:
        asked.run(asked)
    except cv.CnnvisError as error:
        print(f"cnnvis: {error}", file=sys.stderr)
        return REFUSED
    except OSError as error:
        print(f"cnnvis: {error.strerror or error}: {error.filename}", file=sys.stderr)
        return REFUSED
    except KeyboardInterrupt:
        print("\nStopped. The same command goes on from what was saved.", file=sys.stderr)
        return STOPPED
    return DONE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m cnnvis_core", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    part = commands.add_parser(
        "exemplars",
        help="find the pictures or clips that drive each unit most",
        description="Find the pictures or clips that drive each unit most. A run that was broken "
        "off goes on where it was; its index is the same as that of an undisturbed one.",
    )
    _add_model(part)
    part.add_argument("--images", required=True, help="folder, zip or Parquet file")
    part.add_argument(
        "--layers",
        nargs="+",
        default=[CONVOLUTIONS],
        help=f"names of layers, {CONVOLUTIONS!r} or {ALL!r} (default: %(default)s)",
    )
    part.add_argument("--out", required=True, help="folder of the index")
    part.add_argument("-k", type=int, default=9, help="exemplars a unit (default: %(default)s)")
    part.add_argument("--batch", type=int, default=32, help="inputs a pass (default: %(default)s)")
    part.add_argument(
        "--chunk", type=int, default=512, help="items between savings (default: %(default)s)"
    )
    part.add_argument("--ray", metavar="ADDRESS", help="count on the Ray cluster at this address")
    part.add_argument("--json", type=Path, help="also write the index in Torchlurk's terms")
    part.set_defaults(run=_exemplars)
    _add_finetune(commands)
    part = commands.add_parser(
        "check",
        help="see whether a server is set up rightly",
        description="See whether the CNNVIS_* variables ask for what can be had; `make serve` "
        "does so before it serves.",
    )
    part.set_defaults(run=lambda _: (limits(), of_this_server()))
    return parser


def _add_model(part: argparse.ArgumentParser) -> None:
    part.add_argument("--model", required=True, help="id from the catalogue")
    part.add_argument("--weights", type=Path, help="own weights for it (.safetensors or .pth)")
    part.add_argument("--device", help="cuda, mps or cpu (default: the first that is there)")


def _add_finetune(commands: Any) -> None:
    usual = cv.Finetuning()
    part = commands.add_parser(
        "finetune",
        help="train a network further on labelled pictures or clips",
        description="Train a network further on labelled pictures or clips. After every epoch the "
        "weights are kept; a training that was broken off goes on from there and ends at the same "
        "weights.",
    )
    _add_model(part)
    part.add_argument("--data", required=True, help="folder of folders, zip or Parquet file")
    part.add_argument("--out", required=True, help="folder of the weights and the log")
    part.add_argument(
        "--train",
        nargs="+",
        default=[usual.train],
        help="'all', 'head', how many last stages, or names of parts (default: %(default)s)",
    )
    for name, kind, words in (
        ("epochs", int, "how often each item is seen"),
        ("batch", int, "items a step"),
        ("learning-rate", float, "of AdamW"),
        ("schedule", str, "cosine, constant or steps"),
        ("weight-decay", float, "of AdamW"),
        ("augmentation", str, "none, light or strong"),
        ("validation", float, "share of each class that is only tested"),
        ("seed", int, "of all that is drawn at random"),
    ):
        default = getattr(usual, name.replace("-", "_"))
        part.add_argument(
            f"--{name}", type=kind, default=default, help=f"{words} (default: {default})"
        )
    part.add_argument("--scratch", action="store_true", help="forget all weights first")
    part.set_defaults(run=_finetune)


def _exemplars(asked: argparse.Namespace) -> None:
    load = partial(_model, asked.model, asked.weights, asked.device)
    model = load()
    crew = None if asked.ray is None else Cluster(asked.ray, load)
    job = cv.build_exemplars(
        model, asked.images, _layers(model, asked.layers), asked.k, asked.out, asked.batch,
        asked.chunk, crew,
    )  # fmt: skip
    found = _drive(job)
    for part in found.broken:
        print(f"left out {part['file']}: {part['reason']}", file=sys.stderr)
    if asked.json is not None:
        asked.json.write_text(json.dumps(as_json(found, model)), encoding="utf-8")
    units = sum(found.manifest["units"].values())
    print(f"{units:,} units of {len(found.layers)} layers over {found.manifest['items']:,} items")


def _finetune(asked: argparse.Namespace) -> None:
    train = asked.train
    if len(train) == 1 and (train[0] in ("all", "head") or train[0].isdecimal()):
        (train,) = (int(t) if t.isdecimal() else t for t in train)
    else:
        train = tuple(train)
    settings = cv.Finetuning(
        train, asked.epochs, asked.batch, asked.learning_rate, asked.schedule, asked.weight_decay,
        asked.augmentation, asked.validation, asked.seed, asked.scratch,
    )  # fmt: skip
    model = _model(asked.model, asked.weights, asked.device)
    found = _drive(cv.finetune(model, asked.data, asked.out, settings))
    for name, why in found.broken.items():
        print(f"left out {name}: {why}", file=sys.stderr)
    print(found.log.to_string(index=False, float_format="{:.4g}".format))
    best = found.best
    print(f"best: epoch {best.epoch}, {best.accuracy:.1%} of the held-back items named rightly")


def _model(name: str, weights: Path | None, device: str | None) -> cv.Model:
    if weights is None:
        return cv.load(name, device)
    try:
        data = weights.read_bytes()
    except OSError as error:
        raise cv.InputError(f"{weights.name!r} cannot be read.") from error
    return cv.load_checkpoint(name, data, device)


def _layers(model: cv.Model, asked: Sequence[str]) -> list[str]:
    if list(asked) == [ALL]:
        return [layer.name for layer in model.layers]
    if list(asked) == [CONVOLUTIONS]:
        return [layer.name for layer in model.layers if "Conv" in layer.kind]
    return list(asked)


def _drive(job: cv.Job[Result, Preview]) -> Result:
    """Run a job with a bar, redrawn in place where somebody watches."""
    watched = sys.stderr.isatty()
    with job:
        for progress in job:
            if watched:
                print(_bar(progress), end="", file=sys.stderr)
    if watched:
        print(file=sys.stderr)
    return job.result


def _bar(progress: cv.Progress[Any]) -> str:
    share = progress.done / max(progress.total, 1)
    left = "" if progress.seconds_left is None else f", {progress.seconds_left:.0f} s left"
    bar = f"{'#' * round(BAR * share):<{BAR}}"
    return f"\r[{bar}] {share:4.0%}, {progress.done:,} of {progress.total:,}{left}   "


if __name__ == "__main__":
    sys.exit(main())
