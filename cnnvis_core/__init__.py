"""cnnvis: open a convolutional network like a specimen.

Everything that the dashboard shows can be computed from a notebook with the names below.
"""

from cnnvis_core.activations import feature_maps
from cnnvis_core.attribution import Attribution, attribute
from cnnvis_core.errors import CnnvisError, InputError, ModelError
from cnnvis_core.exemplars import Exemplars, build_exemplars, open_exemplars
from cnnvis_core.filters import Kernels, filters
from cnnvis_core.inputs import Clip, read_audio, read_image
from cnnvis_core.jobs import Job, Progress, run
from cnnvis_core.maximization import Maximization, maximize
from cnnvis_core.models import (
    Layer,
    Model,
    ModelCard,
    ReceptiveField,
    Registered,
    catalogue,
    from_module,
    load,
    load_checkpoint,
)
from cnnvis_core.occlusion import Occlusion, faithfulness, occlude, occluder_for
from cnnvis_core.orientation import (
    Gratings,
    ModulationTuning,
    OrientationTuning,
    Ripples,
    rank_modulation,
    rank_orientation,
)
from cnnvis_core.programs import load_program
from cnnvis_core.transfer import (
    Alignment,
    Change,
    Finetuned,
    Finetuning,
    align,
    compare,
    finetune,
)

__all__ = [
    "Alignment",
    "Attribution",
    "Change",
    "Clip",
    "CnnvisError",
    "Exemplars",
    "Finetuned",
    "Finetuning",
    "Gratings",
    "InputError",
    "Job",
    "Kernels",
    "Layer",
    "Maximization",
    "Model",
    "ModelCard",
    "ModelError",
    "ModulationTuning",
    "Occlusion",
    "OrientationTuning",
    "Progress",
    "ReceptiveField",
    "Registered",
    "Ripples",
    "align",
    "attribute",
    "build_exemplars",
    "catalogue",
    "compare",
    "faithfulness",
    "feature_maps",
    "filters",
    "finetune",
    "from_module",
    "load",
    "load_checkpoint",
    "load_program",
    "maximize",
    "occlude",
    "occluder_for",
    "open_exemplars",
    "rank_modulation",
    "rank_orientation",
    "read_audio",
    "read_image",
    "run",
]
