"""Serve the app and, on SIGUSR1, write what is left on its models into a file.

python tests/browser/serve.py PORT REPORT [WEIGHTS]

WEIGHTS, in JSON, names other sources of public weights: {model id: [url, bytes]}.
"""

from __future__ import annotations

import gc
import json
import signal
import sys
from pathlib import Path

from streamlit.web import cli

PORT, REPORT = sys.argv[1], Path(sys.argv[2])
WEIGHTS = json.loads(sys.argv[3]) if len(sys.argv) > 3 else {}


def report(*_: object) -> None:
    """Count modules, their hooks, gradients and training flags, and jobs in the whole process."""
    import torch

    from cnnvis_core.turns import Turns

    # No other thread may go on while objects are held that it is about to fill.
    interval = sys.getswitchinterval()
    sys.setswitchinterval(3600)
    gc.unfreeze()  # what was set aside is not listed
    # By their types: to ask a dead weak reference would raise.
    every = gc.get_objects()
    modules = [m for m in every if issubclass(type(m), torch.nn.Module)]
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    found = {
        "modules": len(modules),
        "hooks": sum(len(getattr(m, kind)) for m in modules for kind in kinds),
        "gradients": sum(p.grad is not None for m in modules for p in m.parameters(False)),
        "trainable": sum(p.requires_grad for m in modules for p in m.parameters(False)),
        "training": sum(m.training for m in modules),
        # Without its lock, which a thread that this signal interrupts might hold.
        "jobs": sum(len(t._there) for t in every if issubclass(type(t), Turns)),
    }
    del every, modules
    sys.setswitchinterval(interval)
    part = REPORT.with_suffix(".part")
    part.write_text(json.dumps(found))
    part.replace(REPORT)


def redirect_downloads() -> None:
    """Fetch the weights that the command line names from where it says."""
    from cnnvis_core.models import zoo
    from cnnvis_core.models.download import WeightFile

    public = zoo.weight_file
    zoo.weight_file = lambda name: WeightFile(*WEIGHTS[name]) if name in WEIGHTS else public(name)


if WEIGHTS:
    redirect_downloads()
signal.signal(signal.SIGUSR1, report)
sys.argv = ["streamlit", "run", "app.py", f"--server.port={PORT}", "--server.address=localhost"]
cli.main()
