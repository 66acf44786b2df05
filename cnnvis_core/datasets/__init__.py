"""Datasets of pictures or clips: folders, zips, Parquet files, bytes at hand."""

from cnnvis_core.datasets.dataset import Dataset
from cnnvis_core.datasets.memory import MemoryDataset, dataset_of_uploads
from cnnvis_core.datasets.opening import open_dataset
from cnnvis_core.datasets.tiles import sample_tiles

__all__ = ["Dataset", "MemoryDataset", "dataset_of_uploads", "open_dataset", "sample_tiles"]
