"""Run the cells of a notebook and store what they print and show, without Jupyter.

    python -m training.draw_notebook [docs/your_network.ipynb]

Cells are edited in the notebook itself; this brings its outputs up to date. The file is written
only if every cell ran and no output names a folder of this machine.
"""

from __future__ import annotations

import argparse
import ast
import base64
import contextlib
import io
import json
import linecache
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image

NOTEBOOK = Path("docs/your_network.ipynb")
MOST_BYTES = 800_000  # of a notebook with its outputs


@dataclass(frozen=True)
class Ran:
    """What a code cell did.

    Attributes
    ----------
    cell : dict
        The cell.
    printed : str
        What it wrote to the standard output.
    shown : object
        The value of its last expression; None where there is none.
    """

    cell: dict[str, Any]
    printed: str
    shown: object


def main() -> None:
    """Bring the outputs of a notebook up to date."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("notebook", type=Path, nargs="?", default=NOTEBOOK)
    path: Path = parser.parse_args().notebook
    notebook = json.loads(path.read_text("utf-8"))
    began = time.perf_counter()
    for number, ran in enumerate(run_cells(notebook, {"__name__": "__main__"}), 1):
        ran.cell["execution_count"] = number
        ran.cell["outputs"] = outputs(ran, number)
        print(f"{time.perf_counter() - began:6.1f} s  {ran.cell['id']}")
    written = json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"
    for place in (Path.cwd(), Path.home(), Path(tempfile.gettempdir())):
        if f"{place}/" in written:
            raise SystemExit(f"An output names the folder {place}; print names of files alone.")
    if len(written.encode()) > MOST_BYTES:
        raise SystemExit(f"The notebook would have {len(written.encode()):,} bytes; show less.")
    path.write_text(written, "utf-8")
    print(f"{path}: {len(written.encode()):,} bytes")


def run_cells(notebook: dict[str, Any], namespace: dict[str, Any]) -> Iterator[Ran]:
    """Run the code cells one after the other in one namespace, as Jupyter does.

    Parameters
    ----------
    notebook : dict
        The parsed file; not changed.
    namespace : dict
        Where names live; it is filled. It needs a ``__name__``.

    Yields
    ------
    Ran
        After each code cell; what a cell raises passes on.
    """
    for cell in notebook["cells"]:
        if cell["cell_type"] != "code":
            continue
        source, name = "".join(cell["source"]), f"<cell {cell['id']}>"
        # Tracebacks and inspect.getsource find the lines there.
        linecache.cache[name] = len(source), None, source.splitlines(keepends=True), name
        body = ast.parse(source, name).body
        last = body[-1] if body and isinstance(body[-1], ast.Expr) else None
        body = body[:-1] if last else body
        printed, shown = io.StringIO(), None
        with contextlib.redirect_stdout(printed):
            exec(compile(ast.Module(body, []), name, "exec"), namespace)
            if last is not None:
                shown = eval(compile(ast.Expression(last.value), name, "eval"), namespace)
        yield Ran(cell, printed.getvalue(), shown)


def outputs(ran: Ran, number: int) -> list[dict[str, Any]]:
    """The outputs of a cell in the notebook format, version 4.5."""
    found: list[dict[str, Any]] = []
    if ran.printed:
        text = ran.printed.splitlines(keepends=True)
        found.append({"output_type": "stream", "name": "stdout", "text": text})
    if ran.shown is not None:
        found.append(
            {
                "output_type": "execute_result",
                "execution_count": number,
                "metadata": {},
                "data": shown_as(ran.shown),
            }
        )
    return found


def shown_as(value: object) -> dict[str, Any]:
    """A value as Jupyter shows it: by the type of its content."""
    if isinstance(value, Image.Image):
        buffer = io.BytesIO()
        value.save(buffer, "PNG", optimize=True)
        # The usual text of a picture holds an address in memory.
        words = f"<{value.mode} picture of {value.width} x {value.height} pixels>"
        return {"image/png": base64.b64encode(buffer.getvalue()).decode(), "text/plain": [words]}
    found: dict[str, Any] = {"text/plain": repr(value).splitlines(keepends=True)}
    if isinstance(value, pd.DataFrame):
        found["text/html"] = value._repr_html_().splitlines(keepends=True)
    return found


if __name__ == "__main__":
    main()
