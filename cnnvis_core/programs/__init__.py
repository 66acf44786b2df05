"""Networks of any architecture, from programs that ``torch.export.save`` wrote."""

from cnnvis_core.programs.child import try_program
from cnnvis_core.programs.opening import load_program, told_shape

__all__ = ["load_program", "told_shape", "try_program"]
