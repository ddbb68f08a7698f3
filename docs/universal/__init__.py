"""How the judge for networks that were never calibrated was made: `python -m docs.universal`."""
