"""Where heavy work is computed: in this process, or by the workers of a cluster."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import partial
from typing import Any

import streamlit as st

from cnnvis_core.jobs import Job
from cnnvis_core.limits import cluster_address, limits
from cnnvis_core.remote import Crew, ray_crew
from cnnvis_core.remote.crew import Line
from cnnvis_core.sharing import Shared
from cnnvis_core.turns import Turns
from cnnvis_core.ui.models import shelf

Start = Callable[[], Job[Any, Any]]


@dataclass(frozen=True, eq=False)
class Workplace:
    """A device on which jobs take turns.

    Attributes
    ----------
    turns : Turns
        Who computes now.
    begin : callable
        Makes a job there of what makes it here.
    """

    turns: Turns
    begin: Callable[[Start], Job[Any, Any]]


def _here(start: Start) -> Job[Any, Any]:
    return start()


def _there(crew: Crew, line: Line, start: Start) -> Job[Any, Any]:
    try:
        return crew.job(start, line)
    except (pickle.PicklingError, TypeError, AttributeError):
        return start()  # it holds something of this process, and is computed here


# One for all visitors of this process.
@st.cache_resource(show_spinner="Reaching the cluster")
def workplaces() -> tuple[Workplace, ...]:
    """All devices.

    Raises
    ------
    InputError
        If the operator names a cluster that cannot be reached.
    """
    address, most = cluster_address(), limits()
    if not address:
        return (Workplace(Turns(most.jobs), _here),)
    crew = ray_crew(address, shelf(), most.models_mb * 2**20)
    return tuple(Workplace(Turns(most.jobs), partial(_there, crew, line)) for line in crew.lines)


def workplace(key: Hashable | None = None) -> Workplace:
    """The device of a key, or the one with the fewest jobs."""
    places = workplaces()
    if key is not None:
        return places[hash(key) % len(places)]
    return min(places, key=lambda place: place.turns.jobs)


@st.cache_resource(show_spinner=False)
def shared() -> Shared:
    """Computations that are the same for all visitors."""
    return Shared(limits().shared_mb * 2**20)
