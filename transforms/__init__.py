"""MONAI transforms for CT, MRI and fundus images: preprocessing, and simulated scanner shifts."""
