"""A sheet of tiles, one for each unit, of which one can be chosen."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from pathlib import Path

import streamlit as st

from cnnvis_core.render.pictures import png
from cnnvis_core.render.sprites import Sprite

_HTML = """
<div class="tiles" tabindex="0" role="listbox">
  <img>
  <div class="frame pointed" hidden></div>
  <div class="frame chosen" hidden></div>
</div>
<div class="label" aria-live="polite"></div>
"""
_CSS = """
.tiles { position: relative; line-height: 0; cursor: pointer; border-radius: 4px; }
.tiles:focus-visible { outline: 2px solid var(--st-primary-color); outline-offset: 3px; }
.tiles img { width: 100%; image-rendering: pixelated; user-select: none; }
.frame { position: absolute; box-sizing: border-box; pointer-events: none; border-radius: 3px; }
.frame[hidden] { display: none; }
.pointed { border: 2px solid var(--st-text-color); }
.chosen { border: 3px solid var(--st-primary-color); box-shadow: 0 0 0 1px #ffffffcc; }
.label {
  font: 0.875rem var(--st-font); color: var(--st-text-color); opacity: 0.75;
  min-height: 1.5em; margin-top: 0.4em; font-variant-numeric: tabular-nums;
}
"""
_SCRIPT = (Path(__file__).parent / "components" / "tiles.js").read_text(encoding="utf-8")
_tiles = st.components.v2.component("cnnvis_tiles", html=_HTML, css=_CSS, js=_SCRIPT)


def tile_sheet(
    sprite: Sprite,
    names: Sequence[str],
    chosen: int | None,
    take: Callable[[int], None],
    key: str,
    alt: str,
    hint: str = "Choose a tile.",
) -> None:
    """Draw a sheet.

    Parameters
    ----------
    sprite : Sprite
        The tiles.
    names : sequence of str
        What to say of each tile.
    chosen : int or None
        The tile that is framed.
    take : callable
        Called with the tile that the visitor chooses, before the page is drawn again.
    key : str
        Of the widget.
    alt : str
        The sheet in words.
    hint : str
        Shown while no tile is chosen or pointed at.
    """

    def picked() -> None:
        index = st.session_state[key].picked
        if index is not None and 0 <= int(index) < sprite.count:
            take(int(index))

    source = "data:image/png;base64," + base64.b64encode(png(sprite.picture, quick=True)).decode()
    _tiles(
        data={
            "source": source,
            "count": sprite.count,
            "columns": sprite.columns,
            # Tiles may be enlarged to twice their size, not more.
            "width": 2 * sprite.picture.width,
            "names": list(names),
            "chosen": chosen,
            "alt": alt,
            "hint": hint,
        },
        key=key,
        on_picked_change=picked,
    )
