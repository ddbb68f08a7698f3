"""The error that means: this network, or this image, keeps its unadapted answer."""


class CannotAdapt(ValueError):
    """This network, or this image, cannot be adapted; the message says why and what to choose instead."""
