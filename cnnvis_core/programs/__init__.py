"""Networks of any architecture, from programs that ``torch.export.save`` wrote."""

from cnnvis_core.programs.opening import load_program, told_shape
from cnnvis_core.programs.trials import Trials

__all__ = ["Trials", "load_program", "told_shape"]
