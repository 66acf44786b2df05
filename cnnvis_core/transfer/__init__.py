"""Transfer: how a network changes as it learns a new task."""

from cnnvis_core.transfer.alignment import Alignment, align
from cnnvis_core.transfer.change import MEASURES, By, Change, Pair
from cnnvis_core.transfer.checkpoints import Checkpoint, Finetuned
from cnnvis_core.transfer.compare import compare
from cnnvis_core.transfer.finetune import finetune
from cnnvis_core.transfer.network import stages_of
from cnnvis_core.transfer.responses import common_layers
from cnnvis_core.transfer.settings import Finetuning

__all__ = [
    "MEASURES",
    "Alignment",
    "By",
    "Change",
    "Checkpoint",
    "Finetuned",
    "Finetuning",
    "Pair",
    "align",
    "common_layers",
    "compare",
    "finetune",
    "stages_of",
]
