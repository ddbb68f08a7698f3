"""The errors that mean: this network, or this image, keeps its unadapted answer."""


class CannotAdapt(ValueError):
    """This network, or this image, cannot be adapted; the message says why and what to choose instead."""


class TooFewVoxels(ValueError):
    """A layer sees one value per channel, which has no variance, and there are no statistics of the source to use instead."""
