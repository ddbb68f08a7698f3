"""How steady the margin is: `python -m docs.margin TRIALS` on the kept trials of one calibration, in minutes.

TRIALS is the folder of one calibration in `gain_predictor.trials`. Images are drawn with replacement, all cases of an image
together. On each such draw the margin is chosen as it was chosen before (images held out in one way, grave losses counted, no
limit to gambles) and as `monai_tta.preparation.margin` chooses it. Each decision is then tried on the images that were not drawn,
by a forest that was fitted to those that were.

`python -m docs.margin --simulate` does the same where the truth is known: made-up predictions with errors of four kinds, on which
the rule was chosen before it was tried on any trials.
"""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from monai_tta.preparation import fit
from monai_tta.preparation.fit import LEAF_SIZE, REPEATS, fit_forest, predict_held_out, stack_rows, ways_to_hold_out
from monai_tta.preparation.margin import DISCOUNT, GRAVE_LOSS, LOSS_LIMIT, MARGINS, SURE_SPREADS, TEMPERATURE, choose_margin
from monai_tta.preparation.trials import KeptTrials
from monai_tta.quality.features import FEATURES
from monai_tta.quality.gain_predictor import GainPredictor
from monai_tta.quality.mixture_weights import RISK_AVERSION, PredictedGains, candidate_weights, exceeds_margin
from monai_tta.reporting.significance import HARM

NOW = "now"
BEFORE = "before"


def margin_before(cases, predictions, harm):
    """The least margin that keeps the share of harmed cases, and the count of grave losses, below the wanted rate."""
    n = len(cases)
    discounted = [predicted._replace(discount=RISK_AVERSION * predicted.spread) for predicted in predictions]
    true_gains = [case.gain_of(candidate_weights(gains, TEMPERATURE)) for case, gains in zip(cases, discounted, strict=True)]
    for margin in MARGINS:
        is_adapted = [exceeds_margin(predicted, margin) for predicted in predictions]
        kept = np.where(is_adapted, true_gains, 0)
        if ((kept < -HARM).sum() + 1) / (n + 1) <= harm and (kept < -GRAVE_LOSS).mean() <= harm / 4:
            break
    return margin


def gains_with(predictor, cases):
    """The true gain of each case that a gain predictor decides about; 0 where it is left unadapted."""
    return [case.gain_of(predictor.weights(case.features)) for case in cases]


def read_cases(folder):
    """All kept trials of one calibration that could be used."""
    trials = KeptTrials(folder.parent, folder.name)
    found = [trials.read(number)[1] for number in sorted(trials.numbers())]
    return [case for case in found if case is not None]


@dataclass(frozen=True)
class MadeUpCase:
    """A case with one answer, whose true gain is given."""

    true_gain: float

    def gain_of(self, weights):
        """The true gain of the answer, or 0 for the unadapted one."""
        return self.true_gain if weights.any() else 0.0


ERRORS = {
    "alike": lambda rng, ratio: 0.6 * rng.standard_t(3, len(ratio)),
    "larger where unsure": lambda rng, ratio: np.where(ratio < 1.5, 0.9, 0.5) * rng.standard_t(3, len(ratio)),
    "larger where sure": lambda rng, ratio: np.where(ratio < 1.5, 0.5, 0.8) * rng.standard_t(3, len(ratio)),
    "rare and grave": lambda rng, ratio: np.where(
        rng.uniform(size=len(ratio)) < 0.03, -rng.uniform(3, 12, len(ratio)), rng.normal(0, 0.7, len(ratio))
    ),
}


def make_up(n, rng, errors, ways):
    """Predictions ``(ways, n)`` of gains and spreads, and the true gains ``(n,)``."""
    spread = np.exp(rng.normal(np.log(0.035), 0.6, n))
    ratio = rng.gamma(2.2, 0.9, n)
    true = spread * (ratio + errors(rng, ratio))
    gains = spread * (ratio + rng.normal(0, 0.2, (ways, n)))
    return gains, spread * np.exp(rng.normal(0, 0.15, (ways, n))), true


def simulate(draws, harm, n=160):
    """Choose margins on made-up cases, and try them on 50,000 others of the same kind."""
    for name, errors in ERRORS.items():
        (gain,), (spread,), true = make_up(50_000, np.random.default_rng(999), errors, 1)
        margins = {BEFORE: [], NOW: []}
        for draw in range(draws):
            gains, spreads, truth = make_up(n, np.random.default_rng(draw), errors, REPEATS)
            cases = [MadeUpCase(value) for value in truth]
            ways = [[PredictedGains(g[[k]], s[[k]], s[[k]]) for k in range(n)] for g, s in zip(gains, spreads, strict=True)]
            margins[BEFORE].append(margin_before(cases, ways[0], harm))
            margins[NOW].append(choose_margin(cases, ways, harm)[0])
        for way, chosen in margins.items():
            limit = np.inf if way == BEFORE else LOSS_LIMIT
            tried = [np.where((gain > k * spread) & (gain - 2 * spread > -limit), true, 0.0) for k in chosen]
            gained, harmed, grave = (100 * np.array(values) for values in zip(*[rates(kept) for kept in tried], strict=True))
            say(f"errors {name}, {way}: margin {np.mean(chosen):.2f}, standard deviation {np.std(chosen):.2f}")
            say(f"  gain {gained.mean():.2f} points, harmed {harmed.mean():.2f} %, lost over five points {grave.mean():.2f} %")
            say(f"  one draw in twenty: harmed {np.quantile(harmed, 0.95):.2f} %, over five {np.quantile(grave, 0.95):.2f} %")


def rates(kept):
    """Mean gain, share of harmed cases, and share of grave losses."""
    return kept.mean(), np.mean(kept < -HARM), np.mean(kept < -GRAVE_LOSS)


def main():
    """Print margins over draws, and gain and harm on images that were not drawn."""
    parser = argparse.ArgumentParser()
    parser.add_argument("trials", type=Path, nargs="?")
    parser.add_argument("--simulate", action="store_true")
    parser.add_argument("--draws", type=int, default=24)
    parser.add_argument("--harm", type=float, default=0.03)
    parser.add_argument("--trees", type=int, default=fit.TREES, help="in each forest; fewer are quicker")
    given = parser.parse_args()
    fit.TREES = given.trees
    if given.simulate:
        simulate(given.draws, given.harm)
        return
    cases = read_cases(given.trials)
    images = sorted({case.group for case in cases})
    rng = np.random.default_rng(0)
    margins = {BEFORE: [], NOW: []}
    gains = {BEFORE: [], NOW: []}
    most = []
    for draw in range(given.draws):
        drawn = rng.choice(images, len(images))
        inside = [case for image in drawn for case in cases if case.group == image]
        outside = [case for case in cases if case.group not in drawn]
        ways = ways_to_hold_out([case.group for case in inside])
        predictions = [predict_held_out(inside, folds) for folds in ways]
        forest = fit_forest(*stack_rows(inside), LEAF_SIZE)
        margins[BEFORE].append(margin_before(inside, predictions[0], given.harm))
        margins[NOW].append(choose_margin(inside, predictions, given.harm)[0])
        for way, limits in ((BEFORE, {}), (NOW, {"loss_limit": LOSS_LIMIT, "sure_spreads": SURE_SPREADS, "discount": DISCOUNT})):
            predictor = GainPredictor(forest, FEATURES, margins[way][-1], forest, -1.0, TEMPERATURE, **limits)
            gains[way] += gains_with(predictor, outside)
        most += [max(case.gains.max(), 0) for case in outside]
        say(f"{draw}: {', '.join(f'{way} {margins[way][-1]:g}' for way in margins)}")
    say(f"{len(cases)} cases of {len(images)} images, {given.draws} draws; to be had: {100 * np.mean(most):.2f} points")
    for way in margins:
        k = np.array(margins[way])
        g = np.array(gains[way])
        say(f"{way}: margin {k.mean():.2f}, standard deviation {k.std():.2f}, {k.min():g} to {k.max():g}")
        say(f"  gain {100 * g.mean():.2f} points, harmed {np.mean(g < -HARM):.2%}, worst {100 * g.min():.1f}")
        say(f"  lost over five points: {np.mean(g < -GRAVE_LOSS):.2%}; left unadapted: {np.mean(g == 0):.1%}")


def say(line):
    """Write a line, at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
