"""Exact occlusion that computes only what a patch changes."""

from cnnvis_core.occlusion.incremental.boxes import Boxes, Change, MapRows
from cnnvis_core.occlusion.incremental.rules import forgets, rule_for
from cnnvis_core.occlusion.incremental.runner import CleanPass, Pass

__all__ = ["Boxes", "Change", "CleanPass", "MapRows", "Pass", "forgets", "rule_for"]
