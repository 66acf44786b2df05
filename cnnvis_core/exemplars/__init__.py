"""Exemplars: which items of a collection drive each unit most."""

from cnnvis_core.exemplars.build import build_exemplars
from cnnvis_core.exemplars.index import Exemplars, open_exemplars
from cnnvis_core.exemplars.sources import BytesSource, Source, open_source

__all__ = ["BytesSource", "Exemplars", "Source", "build_exemplars", "open_exemplars", "open_source"]
