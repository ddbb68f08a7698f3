"""MONAI transforms for adaptation: simulated scanner shifts."""
