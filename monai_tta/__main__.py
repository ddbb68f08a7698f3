"""`python -m monai_tta`."""

from monai_tta.cli import main

main()
