"""Rows of a comparison, made up for tests."""

from monai_tta.reporting.rows import Key, Row, Score

SETTINGS = {"labels": ["cyst", "rim"], "unit": "mm", "metrics": ["dice", "nsd", "hd95", "assd"], "bundle": "b"}
GAINS = (0.1, 0.0, -0.005, -0.2)


def row(contender, number, dice, seed=0, budget=4, domain="d", **named):
    scores = tuple(Score(d, d, 1.0, 0.5) if isinstance(d, float) else d for d in dice)
    return Row(Key("m", domain, contender, budget, seed, number), scores, seconds=1.0, memory=10.0, **named)


def some(budget=4, seed=0, domain="d", more=0.0, groups=("A", "A", "B", "B")):
    """Four cases by Source and by Other, whose Dice changes by `GAINS` and by ``more``."""
    named = [{"group": g} for g in groups]
    place = {"seed": seed, "budget": budget, "domain": domain}
    rows = [row("Source", k, (0.8, 0.6), **place, **named[k]) for k in range(4)]
    return rows + [row("Other", k, (0.8 + g + more, 0.6 + g + more), **place, **named[k]) for k, g in enumerate(GAINS)]


def changed(changes, domain="d", budget=4, base=0.7, with_source=True):
    """One case for each change, by Source and by each contender.

    Args:
        changes: of the Dice, by contender; NaN for a label that is not in the image.
    """
    count = max(len(values) for values in changes.values())
    rows = [row("Source", k, (base,), domain=domain, budget=budget) for k in range(count)] if with_source else []
    for name, values in changes.items():
        rows += [row(name, k, (base + float(v),), domain=domain, budget=budget) for k, v in enumerate(values)]
    return rows
