"""How steady the margin is: `python -m docs.margin TRIALS` on the kept trials of one calibration, in minutes.

TRIALS is the folder of one calibration in `gain_predictor.trials`. Images are drawn with replacement, all cases of an image
together. On each such draw the margin is chosen as it was chosen before (images held out in one way, grave losses counted, no
limit to gambles) and as `monai_tta.preparation.margin` chooses it. Each decision is then tried on the images that were not drawn,
by a forest that was fitted to those that were.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

from monai_tta.preparation.fit import LEAF_SIZE, fit_forest, predict_held_out, stack_rows, ways_to_hold_out
from monai_tta.preparation.margin import GRAVE_LOSS, LOSS_LIMIT, MARGINS, TEMPERATURE, choose_margin
from monai_tta.preparation.trials import KeptTrials
from monai_tta.quality.gain_predictor import candidate_weights, exceeds_margin, exceeds_min_gain, is_gamble
from monai_tta.reporting.significance import HARM

NOW = "now"
BEFORE = "before"


def margin_before(cases, predictions, harm):
    """The least margin that keeps the share of harmed cases, and the count of grave losses, below the wanted rate."""
    n = len(cases)
    true_gains = [case.gain_of(candidate_weights(*pair, TEMPERATURE)) for case, pair in zip(cases, predictions, strict=True)]
    for margin in MARGINS:
        is_adapted = [exceeds_margin(gain, spread, margin) for gain, spread in predictions]
        kept = np.where(is_adapted, true_gains, 0)
        if ((kept < -HARM).sum() + 1) / (n + 1) <= harm and (kept < -GRAVE_LOSS).mean() <= harm / 4:
            break
    return margin


def gains_with(margin, limit, cases, forest):
    """The true gain of each case that a forest decides about; 0 where it is left unadapted."""
    gains = []
    for case in cases:
        of_each_tree = forest.each(case.features)
        gain, spread = of_each_tree.mean(0), of_each_tree.std(0)
        weights = candidate_weights(gain, spread, TEMPERATURE)
        is_adapted = exceeds_margin(gain, spread, margin) and exceeds_min_gain(weights, gain)
        is_adapted = is_adapted and not (limit is not None and is_gamble(weights, gain, spread, limit))
        gains.append(case.gain_of(weights) if is_adapted else 0.0)
    return gains


def read_cases(folder):
    """All kept trials of one calibration that could be used."""
    trials = KeptTrials(folder.parent, folder.name)
    found = [trials.read(number)[1] for number in sorted(trials.numbers())]
    return [case for case in found if case is not None]


def main():
    """Print margins over draws, and gain and harm on images that were not drawn."""
    parser = argparse.ArgumentParser()
    parser.add_argument("trials", type=Path)
    parser.add_argument("--draws", type=int, default=24)
    parser.add_argument("--harm", type=float, default=0.03)
    given = parser.parse_args()
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
        for way, limit in ((BEFORE, None), (NOW, LOSS_LIMIT)):
            gains[way] += gains_with(margins[way][-1], limit, outside, forest)
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
