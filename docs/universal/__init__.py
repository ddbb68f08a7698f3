"""How the gain predictor for networks that were never calibrated was made: `python -m docs.universal`."""
