"""Fine-tuning from a command line."""

from __future__ import annotations

import pytest

import cnnvis_core as cv
from cnnvis_core.__main__ import main
from tests.datasets.piles import as_folder
from tests.transfer.test_finetune import colourful

MODEL = "resnet64-tiny-imagenet"


def test_a_command_trains_goes_on_and_says_what_it_found(tmp_path, capsys):
    data = as_folder({**colourful(5), "red/broken.png": b"x"}, tmp_path / "in")
    out = tmp_path / "out"
    asked = ["finetune", "--model", MODEL, "--data", str(data), "--out", str(out), "--epochs", "2"]
    assert main([*asked, "--train", "1", "--augmentation", "none"]) == 0
    said = capsys.readouterr()
    assert "best: epoch" in said.out
    assert "left out red/broken.png" in said.err
    assert (out / "log.csv").read_text().startswith("epoch,learning_rate")
    weights = (out / "epoch-002.safetensors").read_bytes()
    tuned = cv.load_checkpoint(MODEL, weights)
    assert tuned.classes == ("blue", "green", "red")
    assert main([*asked, "--train", "1", "--augmentation", "none"]) == 0
    assert (out / "epoch-002.safetensors").read_bytes() == weights
    assert main(asked) == 1
    assert "other settings" in capsys.readouterr().err
    assert main([*asked, "--train", "nothing"]) == 1
    with pytest.raises(SystemExit) as stop:
        main(["finetune", "--model", MODEL])
    assert stop.value.code == 2
