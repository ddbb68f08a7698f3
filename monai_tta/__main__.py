"""`python -m monai_tta`."""

from monai_tta.cli.app import main

main()
