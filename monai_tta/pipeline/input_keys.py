"""Keys of a case's dictionary, which several modules know."""

CORRECTION = "input_correction"  # the correction that is applied right after loading
