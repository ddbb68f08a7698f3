"""The larger commands of `monai-tta`, one file each; `monai_tta.cli` puts them together."""
