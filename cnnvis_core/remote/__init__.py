"""Heavy jobs on other machines, step by step, through the one shape that every job has."""

from cnnvis_core.remote.crew import Crew, ray_crew
from cnnvis_core.remote.worker import Worker

__all__ = ["Crew", "Worker", "ray_crew"]
