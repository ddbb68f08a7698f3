"""Small forests: a fit grows twenty-six of them, and what the tests look at does not need a hundred trees in each."""

import pytest


@pytest.fixture(autouse=True)
def small_forests(monkeypatch):
    monkeypatch.setattr("monai_tta.preparation.fit.TREES", 20)
