"""What make, Docker, CI and the settings promise, checked without a Docker engine."""

from __future__ import annotations

import importlib.metadata
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from cnnvis_core.limits import Limits

ROOT = Path(__file__).resolve().parent.parent
CONFIG = tomllib.loads((ROOT / ".streamlit" / "config.toml").read_text(encoding="utf-8"))

# torch pins the parts of CUDA that belong to it, on Linux only.
TORCHS_OWN = re.compile(r"nvidia-|cuda-|triton$")


def make(*arguments: str, folder: Path = ROOT, **environment: str) -> subprocess.CompletedProcess:
    """Run make as a shell would, not as a child of the make that runs the tests."""
    dropped = ("MAKEFLAGS", "MAKELEVEL", "PORT", "ADDRESS", "ARGS", "BASE_PYTHON")
    inherited = {name: value for name, value in os.environ.items() if name not in dropped}
    return subprocess.run(
        ["make", *arguments],
        cwd=folder,
        env=inherited | environment,
        capture_output=True,
        text=True,
        check=False,
    )


# Requirements.


def requirements(name: str) -> dict[str, str]:
    """Canonical name and exact version of each line of a requirements file."""
    pins = {}
    for line in (ROOT / name).read_text(encoding="utf-8").splitlines():
        text = line.partition("#")[0].strip()
        if not text or text.startswith("-r "):
            continue
        match = re.fullmatch(r"([A-Za-z0-9._-]+)==([0-9][0-9A-Za-z.]*)(?: *;.*)?", text)
        assert match, f"{line!r} is no exact pin"
        assert canonicalize_name(match[1]) not in pins, f"{match[1]} is pinned twice"
        pins[canonicalize_name(match[1])] = match[2]
    return pins


def needed_by(names: set[str]) -> set[str]:
    """Everything that the installed distributions of these names need on this machine."""
    seen: set[str] = set()
    left = [(name, "") for name in names]
    while left:
        name, extra = left.pop()
        if f"{name}[{extra}]" in seen or TORCHS_OWN.match(name):
            continue
        seen.add(f"{name}[{extra}]")
        for line in importlib.metadata.requires(name) or []:
            need = Requirement(line)
            if need.marker is None or need.marker.evaluate({"extra": extra}):
                left += [(canonicalize_name(need.name), one) for one in ("", *need.extras)]
    return {entry.partition("[")[0] for entry in seen}


def test_the_pins_are_what_is_installed() -> None:
    pins = requirements("requirements.txt") | requirements("requirements-dev.txt")
    for name, version in pins.items():
        assert importlib.metadata.version(name).partition("+")[0] == version, name


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="pinned whole for Python 3.11")
def test_everything_that_is_needed_is_pinned() -> None:
    app = requirements("requirements.txt")
    assert needed_by(set(app)) - app.keys() == set()
    both = app | requirements("requirements-dev.txt")
    assert needed_by(set(both)) - both.keys() == set()


def test_the_development_tools_are_kept_apart() -> None:
    app, tools = requirements("requirements.txt"), requirements("requirements-dev.txt")
    named = "streamlit torch torchvision librosa soundfile altair pillow captum safetensors"
    assert set(named.split()) | {"pyarrow", "pandas", "scikit-image"} <= app.keys()
    assert {"pytest", "ruff", "mypy", "playwright"} <= tools.keys()
    assert not app.keys() & tools.keys()
    text = (ROOT / "requirements-dev.txt").read_text(encoding="utf-8")
    assert "-r requirements.txt" in text.splitlines()


def test_torch_and_torchvision_are_of_one_build() -> None:
    """A mismatch imports torch well and fails at torchvision's first operator."""
    import torch
    import torchvision

    pins = requirements("requirements.txt")
    assert (pins["torch"], pins["torchvision"]) == ("2.15.0", "0.29.2")
    boxes = torch.tensor([[0.0, 0, 10, 10], [1, 1, 10, 10], [20, 20, 30, 30]])
    kept = torchvision.ops.nms(boxes, torch.tensor([0.9, 0.8, 0.7]), 0.5)
    assert kept.tolist() == [0, 2]


# Make.


def targets() -> set[str]:
    """The targets that `make help` lists."""
    shown = make("help")
    assert shown.returncode == 0, shown.stderr
    return set(re.findall(r"^make ([a-z-]+) ", shown.stdout, re.MULTILINE))


def test_make_lists_its_targets() -> None:
    assert {"run", "serve", "install", "test", "lint", "clean", "help"} <= targets()
    assert make().stdout == make("help").stdout


def test_every_target_can_be_made() -> None:
    for target in targets():
        planned = make("--dry-run", target)
        assert planned.returncode == 0, f"{target}: {planned.stderr}"
        assert planned.stdout.strip(), f"{target} does nothing"


def test_make_run_serves_this_machine_only() -> None:
    planned = make("--dry-run", "run").stdout
    assert "streamlit run app.py --server.port=8501 --server.address=localhost" in planned
    assert "--server.port=8600" in make("--dry-run", "run", PORT="8600").stdout
    assert "--server.port=8601" in make("--dry-run", "run", "PORT=8601").stdout
    assert "--server.address=0.0.0.0" in make("--dry-run", "serve").stdout


def test_make_test_passes_its_arguments_on() -> None:
    assert "--dist loadfile -k foo" in make("--dry-run", "test", "ARGS=-k foo").stdout


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A folder with nothing but the Makefile and tiny requirements, to try make in."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "requirements.txt").write_text("")
    (tmp_path / "requirements-dev.txt").write_text("-r requirements.txt\n")
    return tmp_path


def test_a_fresh_clone_is_installed_once(clone: Path) -> None:
    first = make("install-dev", f"BASE_PYTHON={sys.executable}", folder=clone)
    assert first.returncode == 0, first.stderr
    assert (clone / ".venv" / "bin" / "python").exists()
    again = make("install-dev", folder=clone)
    assert again.returncode == 0
    assert "pip" not in again.stdout
    later = (clone / ".venv" / ".installed").stat().st_mtime + 10
    os.utime(clone / "requirements.txt", (later, later))
    assert "-m pip install" in make("--dry-run", "install", folder=clone).stdout


def test_a_failed_install_is_tried_again(clone: Path) -> None:
    (clone / "requirements.txt").write_text("./no-such-package\n")
    for _ in range(2):
        failed = make("install", f"BASE_PYTHON={sys.executable}", folder=clone)
        assert failed.returncode != 0
        assert "no-such-package" in failed.stdout + failed.stderr
    assert not (clone / ".venv" / ".installed").exists()


def test_without_a_python_make_says_what_is_missing(clone: Path) -> None:
    tools = clone / "tools"
    tools.mkdir()
    for tool in ("sh", "make", "getconf"):
        (tools / tool).symlink_to(shutil.which(tool) or "/bin/sh")
    old = tools / "python3"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    failed = make("install", folder=clone, PATH=str(tools))
    assert failed.returncode != 0
    (line,) = [line for line in failed.stderr.splitlines() if "Python" in line]
    assert "Python 3.11 or newer" in line
    assert line.endswith(".")


def test_serving_before_installing_says_what_to_do(clone: Path) -> None:
    failed = make("serve", folder=clone)
    assert failed.returncode != 0
    assert "run make install first." in failed.stderr


# Docker.


def dockerfile() -> list[tuple[str, str]]:
    """Instructions and their arguments, with continued lines joined."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    text = re.sub(r"^#.*\n", "", text, flags=re.MULTILINE).replace("\\\n", " ")
    lines = [line.split(None, 1) for line in text.splitlines() if line.strip()]
    return [(word.upper(), re.sub(r"\s+", " ", rest).strip()) for word, rest in lines]


def arguments_of(instruction: str) -> list[str]:
    return [rest for word, rest in dockerfile() if word == instruction]


def test_the_image_is_pinned_and_slim() -> None:
    (base,) = arguments_of("FROM")
    assert re.fullmatch(r"python:3\.1[123]\.\d+-slim-[a-z]+", base)


def test_every_step_is_a_make_target_that_works() -> None:
    allowed = [
        r"apt-get update && apt-get install --yes --no-install-recommends make && rm -rf \S+",
        r"useradd --create-home --uid \d+ \w+",
    ]
    made = []
    for step in arguments_of("RUN"):
        if match := re.fullmatch(r"make ([a-z-]+)", step):
            made.append(match[1])
        else:
            assert any(re.fullmatch(pattern, step) for pattern in allowed), step
    (command,) = arguments_of("CMD")
    program, target = json.loads(command)
    assert program == "make"
    assert made == ["install"]
    assert target == "serve"
    assert {*made, target} <= targets()


def test_what_a_step_needs_is_copied_before_it() -> None:
    steps = dockerfile()
    install = steps.index(("RUN", "make install"))
    copied = " ".join(rest for word, rest in steps[:install] if word == "COPY")
    assert "Makefile" in copied
    assert "requirements.txt" in copied
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    assert not {"Makefile", "requirements.txt", "app.py", "assets", ".streamlit"} & set(ignored)
    assert {".git", ".venv", "training/runs"} <= set(ignored)


def test_serving_in_the_image_installs_nothing() -> None:
    """The service's user may not write to .venv, and a copied file may look newer than it."""
    assert "pip" not in make("--dry-run", "--always-make", "serve").stdout


def test_the_service_does_not_run_as_root() -> None:
    steps = [word for word, _ in dockerfile()]
    (user,) = arguments_of("USER")
    assert user not in ("root", "0")
    assert steps.index("USER") < steps.index("CMD")
    assert any(user in step for step in arguments_of("RUN") if "useradd" in step)
    assert f"TORCH_HOME=/home/{user}/" in " ".join(arguments_of("ENV"))


def test_the_health_check_asks_streamlit_itself() -> None:
    (check,) = arguments_of("HEALTHCHECK")
    assert "/_stcore/health" in check
    command = json.loads(check[check.index("[") :])
    assert command[:2] == [".venv/bin/python", "-c"]
    compile(command[2], "health check", "exec")
    assert "PORT=8501" in " ".join(arguments_of("ENV"))
    assert arguments_of("EXPOSE") == ["8501"]


# Settings.


def test_the_settings_for_hosting() -> None:
    assert CONFIG["browser"]["gatherUsageStats"] is False
    assert CONFIG["client"]["showErrorDetails"] == "none"
    assert CONFIG["client"]["toolbarMode"] == "viewer"
    assert CONFIG["server"]["maxUploadSize"] == Limits().weights_mb > Limits().media_mb
    assert CONFIG["server"]["fileWatcherType"] == "none"
    assert CONFIG["server"]["headless"] is True
    assert CONFIG["server"]["enableXsrfProtection"] is True
    assert CONFIG["server"]["enableCORS"] is True


def test_streamlit_knows_every_setting() -> None:
    from streamlit import config

    known = config.get_config_options()

    def walk(table: dict[str, object], prefix: str) -> None:
        for key, value in table.items():
            if isinstance(value, dict):
                walk(value, f"{prefix}{key}.")
            else:
                assert prefix + key in known

    walk(CONFIG, "")


def test_nothing_is_fetched_from_a_network() -> None:
    assert "://" not in (ROOT / ".streamlit" / "config.toml").read_text(encoding="utf-8")


def luminance(colour: str) -> float:
    """Relative luminance of #rrggbb (WCAG 2.2)."""
    linear = []
    for start in (1, 3, 5):
        value = int(colour[start : start + 2], 16) / 255
        linear.append(value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4)
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def test_contrast_is_computed_as_wcag_defines_it() -> None:
    assert contrast("#ffffff", "#000000") == pytest.approx(21.0)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_every_text_can_be_read(mode: str) -> None:
    theme = CONFIG["theme"][mode]
    grounds = (theme["backgroundColor"], theme["secondaryBackgroundColor"])
    for ground in grounds:
        assert contrast(theme["textColor"], ground) >= 4.5
        assert contrast(theme["linkColor"], ground) >= 4.5
        # WCAG asks 3:1 of what is no text, such as a slider or the mark of a chosen tab.
        assert contrast(theme["primaryColor"], ground) >= 3.0
    assert contrast(theme["codeTextColor"], theme["codeBackgroundColor"]) >= 4.5
    # Streamlit writes white on buttons of the primary colour.
    assert contrast("#ffffff", theme["primaryColor"]) >= 4.5


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_chart_colours_can_be_told_from_the_ground(mode: str) -> None:
    theme = CONFIG["theme"][mode]
    categorical = theme["chartCategoricalColors"]
    assert len(set(categorical)) == len(categorical) >= 6
    assert all(contrast(colour, theme["backgroundColor"]) >= 2 for colour in categorical)
    sequential = [luminance(colour) for colour in theme["chartSequentialColors"]]
    assert len(sequential) == 10
    steps = [after - before for before, after in itertools.pairwise(sequential)]
    assert all(step < 0 for step in steps) or all(step > 0 for step in steps)
    diverging = [luminance(colour) for colour in theme["chartDivergingColors"]]
    assert len(diverging) == 10
    middle = max if mode == "light" else min
    assert middle(diverging) in diverging[4:6]


# Continuous integration.


def test_ci_demands_the_browser_and_runs_everything() -> None:
    path = ROOT / ".ci" / "run"
    assert os.access(path, os.X_OK)
    assert subprocess.run(["bash", "-n", str(path)], check=False).returncode == 0
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines[0] == "#!/usr/bin/env bash"
    order = [
        lines.index("set -euo pipefail"),
        lines.index("export CNNVIS_REQUIRE_BROWSER=1"),
        lines.index("make lint"),
        lines.index("make test"),
    ]
    assert order == sorted(order)
    text = "\n".join(lines)
    assert text.index("apt-get update") < text.index("apt-get install")
    assert "chromium" in text
