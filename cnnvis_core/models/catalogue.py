"""What can be loaded: the embedded models, a server's own, YAMNet, and torchvision's CNNs."""

from __future__ import annotations

import difflib
from collections.abc import Mapping

from cnnvis_core.errors import ModelError
from cnnvis_core.models.blueprint import Blueprint, State
from cnnvis_core.models.card import ModelCard
from cnnvis_core.models.download import Patience, ProgressCallback, WeightFile
from cnnvis_core.models.embedded import CONTROL, embedded_blueprint, embedded_card, embedded_ids
from cnnvis_core.models.registry import (
    VARIABLE,
    Registered,
    registered,
    registered_blueprint,
)
from cnnvis_core.models.zoo import fetch_state, zoo_blueprint, zoo_card, zoo_ids

YAMNET = "yamnet"


def catalogue() -> tuple[ModelCard, ...]:
    """Cards of all models: embedded ones, a server's own, YAMNet, torchvision's in order of name.

    No network is built and nothing is downloaded. ``available_offline`` tells whether the weights
    are on this machine now. See `Registered` for a server's own.

    Raises
    ------
    ModelError
        If the file with the server's own networks cannot be used.
    """
    return (
        *(embedded_card(model_id) for model_id in embedded_ids()),
        *(entry.card(name) for name, entry in of_this_server().items()),
        yamnet_card(),
        *(zoo_card(model_id) for model_id in zoo_ids()),
    )


def of_this_server() -> Mapping[str, Registered]:
    """The server's own networks by id.

    Raises
    ------
    ModelError
        If the file that names them cannot be used, or takes an id of another model.
    """
    found = registered()
    taken = found.keys() & {*embedded_ids(), YAMNET, *zoo_ids()}
    if taken:
        raise ModelError(f"{VARIABLE}: {sorted(taken)[0]} is the id of another model.")
    return found


def blueprint(model_id: str, patience: Patience | None = None) -> Blueprint:
    """How to put a model of the catalogue together.

    Raises
    ------
    ModelError
        If there is no such model.
    """
    if model_id == YAMNET:
        return yamnet_blueprint(patience)
    own = of_this_server()
    if model_id in own:
        return registered_blueprint(model_id, own[model_id])
    embedded = embedded_ids()
    name, _, epoch = str(model_id).partition(":")
    if name in embedded and (not epoch or epoch.isdecimal() or epoch == CONTROL):
        which = int(epoch) if epoch.isdecimal() else epoch or None
        return embedded_blueprint(name, epoch=which)
    public = zoo_ids()
    if model_id in public:
        return zoo_blueprint(model_id, patience)
    near = difflib.get_close_matches(str(model_id), [*embedded, *own, YAMNET, *public], 3, 0.4)
    hint = f"did you mean {' or '.join(near)}?" if near else "see catalogue() for all names."
    raise ModelError(f"There is no model named {model_id!r}; {hint}")


def yamnet_file() -> WeightFile:
    """Return the public weights of YAMNet; the name carries no hash."""
    from cnnvis_core.models.yamnet import WEIGHTS_BYTES, WEIGHTS_URL

    return WeightFile(WEIGHTS_URL, WEIGHTS_BYTES)


def yamnet_card() -> ModelCard:
    """Return the card of YAMNet."""
    file = yamnet_file()
    return ModelCard(
        id=YAMNET,
        title="YAMNet",
        modality="audio",
        source="torch_audioset v0.1 (Haochen Wang), converted from Google's YAMNet",
        licence="MIT (torch_audioset); Apache-2.0 (Google's YAMNet)",
        bytes=file.size,
        available_offline=file.is_here,
        classes=521,
        parameters=3_740_425,
        accuracy="balanced mAP 0.306 on the AudioSet evaluation set (Google)",
        details="MobileNet v1 on log-mel patches of 0.96 s; 521 AudioSet classes, any at once.",
    )


def yamnet_blueprint(patience: Patience | None = None) -> Blueprint:
    """Return the blueprint of YAMNet."""
    from cnnvis_core.models.yamnet import BANDS, FRAMES, YAMNet, yamnet_classes, yamnet_frontend

    def state(progress: ProgressCallback | None) -> State:
        return fetch_state(yamnet_file(), progress, patience)

    return Blueprint(
        card=yamnet_card(),
        build=YAMNet,
        weights=state,
        classes=yamnet_classes(),
        input_shape=(1, BANDS, FRAMES),
        frontend=yamnet_frontend(),
        exclusive=False,
    )
