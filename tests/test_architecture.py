"""The house rules on imports, each shown to catch what breaks it."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

Graph = Mapping[str, set[str]]

BASE = ("models", "inputs", "jobs", "datasets", "disk", "checks", "remote")
# What changes between two networks is told by what another method finds in each.
BUILDS_ON = {"transfer": ("maximization",)}


def python_files() -> list[Path]:
    """All files of the project, tracked or not, as paths relative to its root."""
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.py"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listing.returncode == 0:
        paths = [Path(line) for line in listing.stdout.splitlines()]
    else:
        paths = [path.relative_to(ROOT) for path in ROOT.rglob("*.py")]
        paths = [path for path in paths if path.parts[0] != ".venv"]
    return sorted(path for path in paths if (ROOT / path).exists())


def module_name(path: Path) -> str:
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(source: str, module: str, is_package: bool) -> set[str]:
    """Dotted names that a module imports, at its top, in functions or for its types only.

    ``from a import b`` gives both ``a`` and ``a.b``, for b may be a module.
    """
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = module.split(".")
                up = node.level - is_package
                parents = parents[: len(parents) - up]
                base = ".".join([*parents, *([node.module] if node.module else [])])
            names |= {base} | {f"{base}.{alias.name}" for alias in node.names}
    return names


def import_graph(sources: Mapping[str, tuple[str, bool]]) -> dict[str, set[str]]:
    """Edges between the given modules; sources are (text, whether it is a package)."""
    graph: dict[str, set[str]] = {}
    for module, (text, is_package) in sources.items():
        names = imported(text, module, is_package)
        # `from package import module` does not read the package's own names.
        shadowed = {name.rpartition(".")[0] for name in names if name in sources}
        from_packages = {
            name.rpartition(".")[0] for name in names if name not in sources and "." in name
        }
        kept = {name for name in names if name not in shadowed or name in from_packages}
        graph[module] = (kept & sources.keys()) - {module}
    return graph


def project_graph() -> dict[str, set[str]]:
    sources = {}
    for path in python_files():
        if path.parts[0] in ("cnnvis_core", "pages") or path == Path("app.py"):
            text = (ROOT / path).read_text(encoding="utf-8")
            sources[module_name(path)] = (text, path.name == "__init__.py")
    return import_graph(sources)


def cycle(graph: Graph) -> list[str] | None:
    """Some import cycle, or None."""
    done: set[str] = set()
    for start in graph:
        stack: list[tuple[str, Iterable[str]]] = [(start, iter(sorted(graph[start])))]
        path = [start]
        while stack:
            node, rest = stack[-1]
            following = next(iter(rest), None)
            if following is None:
                done.add(node)
                stack.pop()
                path.pop()
            elif following in path:
                return [*path[path.index(following) :], following]
            elif following not in done:
                stack.append((following, iter(sorted(graph[following]))))
                path.append(following)
    return None


def part(module: str) -> str:
    """The room of the house that a module is in: a page, the surface, or what is below it.

    The command line is a front of the house, as a page is.
    """
    parts = module.split(".")
    if parts[0] != "cnnvis_core" or parts[1:] == ["__main__"]:
        return "page"
    return parts[1] if len(parts) > 1 else "surface"


def may_import(importer: str, target: str) -> bool:
    """Whether a part of the house may import another one."""
    if importer == target:
        return True
    if target == "page" or importer in ("errors", "brief"):
        return False
    if target == "brief":
        return True
    if importer in ("page", "ui"):
        return True
    if target in ("ui", "surface"):
        return False
    if importer == "surface":
        return True
    if importer == "jobs":
        return target == "errors"
    if importer in ("turns", "sharing"):
        return target in ("errors", "jobs", "weighing")
    if importer == "remote":
        return target in ("errors", "jobs", "models")
    if importer == "weighing":
        return False
    if importer in ("disk", "checks", "limits"):
        return target == "errors"
    if importer == "inputs":
        return target in ("errors", "jobs", "disk")
    if importer == "models":
        return target in ("errors", "inputs", "jobs", "disk")
    if importer == "programs":
        return target in ("errors", "models")
    if importer == "datasets":
        return target in ("errors", "inputs", "models", "disk")
    if importer == "render":
        return target not in ("models",)
    return target in ("errors", *BASE, *BUILDS_ON.get(importer, ()))


def breaches(graph: Graph) -> list[str]:
    return [
        f"{module} imports {target}"
        for module, targets in sorted(graph.items())
        for target in sorted(targets)
        if not may_import(part(module), part(target))
    ]


def imports_streamlit(source: str) -> bool:
    return any(name.split(".")[0] == "streamlit" for name in imported(source, "module", False))


def may_import_streamlit(path: Path) -> bool:
    return (
        path == Path("app.py")
        # The benchmarks of hosting speak the protocol of Streamlit's browsers.
        or (path.parts[0] == "benchmarks" and path.name.startswith("hosting"))
        or path.parts[0] in ("pages", "tests")
        or path.parts[:2] == ("cnnvis_core", "ui")
    )


def test_only_the_interface_imports_streamlit() -> None:
    wrong = [
        str(path)
        for path in python_files()
        if not may_import_streamlit(path)
        and imports_streamlit((ROOT / path).read_text(encoding="utf-8"))
    ]
    assert wrong == []


def test_the_listing_holds_the_whole_house() -> None:
    names = {module_name(path) for path in python_files()}
    assert {"cnnvis_core", "cnnvis_core.errors", "cnnvis_core.inputs.images"} <= names
    assert not any(name.startswith(".venv") for name in names)


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import streamlit as st", True),
        ("from streamlit.testing.v1 import AppTest", True),
        ("def f():\n    import streamlit.runtime", True),
        ("import streamlit_extras", False),
        ("text = 'import streamlit'", False),
    ],
)
def test_an_import_of_streamlit_is_found_wherever_it_is(source: str, found: bool) -> None:
    assert imports_streamlit(source) is found


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("app.py", True),
        ("pages/occlude.py", True),
        ("cnnvis_core/ui/sidebar.py", True),
        ("cnnvis_core/render/charts.py", False),
        ("cnnvis_core/uix.py", False),
        ("training/train_image.py", False),
    ],
)
def test_where_streamlit_is_allowed(path: str, allowed: bool) -> None:
    assert may_import_streamlit(Path(path)) is allowed


def test_there_is_no_import_cycle() -> None:
    assert cycle(project_graph()) is None


def test_no_two_parts_need_each_other() -> None:
    graph = project_graph()
    parts: dict[str, set[str]] = {}
    for module, targets in graph.items():
        parts.setdefault(part(module), set()).update(part(target) for target in targets)
    for name, targets in parts.items():
        targets.discard(name)
    assert cycle(parts) is None


def test_imports_run_downwards() -> None:
    assert breaches(project_graph()) == []


def test_a_cycle_is_found() -> None:
    assert cycle({"a": {"b"}, "b": {"c"}, "c": set()}) is None
    assert cycle({"a": {"b", "c"}, "b": {"d"}, "c": {"d"}, "d": set()}) is None
    found = cycle({"a": {"b"}, "b": {"c"}, "c": {"b"}})
    assert found is not None
    assert found[0] == found[-1]
    assert set(found) == {"b", "c"}


def test_a_cycle_through_a_function_or_a_type_is_found() -> None:
    sources = {
        "cnnvis_core.a": ("from cnnvis_core import b", False),
        "cnnvis_core.b": ("def f():\n    from .c import g", False),
        "cnnvis_core.c": ("if TYPE_CHECKING:\n    from cnnvis_core.a import X", False),
        "cnnvis_core": ("from cnnvis_core.a import X", True),
    }
    graph = import_graph(sources)
    assert graph["cnnvis_core.a"] == {"cnnvis_core.b"}
    assert graph["cnnvis_core.b"] == {"cnnvis_core.c"}
    assert set(cycle(graph) or ()) == {"cnnvis_core.a", "cnnvis_core.b", "cnnvis_core.c"}


def test_a_module_that_reads_from_its_own_package_is_a_cycle() -> None:
    graph = import_graph(
        {
            "cnnvis_core.models": ("from cnnvis_core.models.load import load", True),
            "cnnvis_core.models.load": ("from cnnvis_core.models import Model", False),
        }
    )
    assert cycle(graph) is not None


def test_a_relative_import_of_a_package_is_resolved() -> None:
    sources = {
        "cnnvis_core.render": ("from . import colour\nfrom ..errors import InputError", True),
        "cnnvis_core.render.colour": ("", False),
        "cnnvis_core.errors": ("", False),
    }
    assert import_graph(sources)["cnnvis_core.render"] == {
        "cnnvis_core.render.colour",
        "cnnvis_core.errors",
    }


@pytest.mark.parametrize(
    ("importer", "target"),
    [
        ("cnnvis_core.occlusion.engine", "cnnvis_core.filters"),
        ("cnnvis_core.filters", "cnnvis_core.maximization.ascent"),
        ("cnnvis_core.occlusion.engine", "cnnvis_core.render.charts"),
        ("cnnvis_core.occlusion.engine", "cnnvis_core"),
        ("cnnvis_core.render.charts", "cnnvis_core.models.model"),
        ("cnnvis_core.render.charts", "cnnvis_core.ui.models"),
        ("cnnvis_core.models.model", "cnnvis_core.occlusion"),
        ("cnnvis_core.inputs.images", "cnnvis_core.models.model"),
        ("cnnvis_core.jobs", "cnnvis_core.inputs"),
        ("cnnvis_core.models.model", "cnnvis_core.datasets.tables"),
        ("cnnvis_core.disk", "cnnvis_core.datasets"),
        ("cnnvis_core.errors", "cnnvis_core.jobs"),
        ("cnnvis_core.ui.models", "pages.occlude"),
        ("cnnvis_core", "cnnvis_core.ui.models"),
        ("cnnvis_core", "app"),
        ("cnnvis_core.ui.models", "cnnvis_core.__main__"),
        ("cnnvis_core.transfer.pictures", "cnnvis_core.orientation"),
        ("cnnvis_core.maximization.ascent", "cnnvis_core.transfer"),
    ],
)
def test_an_import_upwards_is_found(importer: str, target: str) -> None:
    assert breaches({importer: {target}}) == [f"{importer} imports {target}"]


@pytest.mark.parametrize(
    ("importer", "target"),
    [
        ("pages.occlude", "cnnvis_core.ui.models"),
        ("app", "cnnvis_core"),
        ("cnnvis_core.ui.models", "cnnvis_core.occlusion"),
        ("cnnvis_core", "cnnvis_core.occlusion"),
        ("cnnvis_core.occlusion.engine", "cnnvis_core.models.model"),
        ("cnnvis_core.occlusion.engine", "cnnvis_core.occlusion.grid"),
        ("cnnvis_core.render.charts", "cnnvis_core.occlusion.result"),
        ("cnnvis_core.models.logmel", "cnnvis_core.inputs.clip"),
        ("cnnvis_core.jobs", "cnnvis_core.errors"),
        ("cnnvis_core.transfer.pictures", "cnnvis_core.maximization"),
    ],
)
def test_an_import_downwards_is_fine(importer: str, target: str) -> None:
    assert breaches({importer: {target}}) == []


def test_importing_the_library_is_light() -> None:
    code = "import cnnvis_core, sys; print(*{name.split('.')[0] for name in sys.modules})"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.split())
    assert "cnnvis_core" in loaded
    assert not loaded & {"streamlit", "librosa"}


def modes_across_steps(source: str) -> list[int]:
    """Lines where a computation yields inside a mode of torch's, which belongs to its thread."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.With):
            modes = [ast.unparse(item.context_expr) for item in node.items]
            inside = any(isinstance(part, ast.Yield | ast.YieldFrom) for part in ast.walk(node))
            if inside and any(mode.startswith("torch.") for mode in modes):
                found.append(node.lineno)
    return found


def test_no_step_of_a_job_leaves_a_mode_on_in_its_thread() -> None:
    assert modes_across_steps("def f():\n  with torch.no_grad():\n    yield 1") == [2]
    assert modes_across_steps("def f():\n  with torch.no_grad():\n    g()\n  yield 1") == []
    wrong = {
        str(path): lines
        for path in python_files()
        if path.parts[0] in ("cnnvis_core", "pages")
        and (lines := modes_across_steps((ROOT / path).read_text(encoding="utf-8")))
    }
    assert wrong == {}
