"""The version, by itself so that building does not import torch."""

__version__ = "0.1.0"
