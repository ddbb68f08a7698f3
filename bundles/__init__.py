"""MONAI bundles that define source networks, and the overlays that adapt any bundle."""
