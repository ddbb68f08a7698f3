"""What STAG's readings change and cost, for the tables and the figure of stag.md. Each command takes three minutes of one core.

`python -m docs.stag_readings DATA docs/stag.svg [tent | grata] [CASES]`: DATA is the folder of the hippocampus images: images,
labels and split.csv. A small BasicUNet is trained on some of them, since the bundle's own network does not end in a classifier.

`python -m docs.stag_readings cost`: the ratio of the time of an image with STAG to that without, in alternating runs.
"""

import csv
import sys
import time
from pathlib import Path
from statistics import mean, median, stdev

import nibabel as nib
import torch
from monai.losses import DiceCELoss
from monai.networks.nets import BasicUNet

from monai_tta import STAG, Adam, AdaptiveInferer, ConsistencyTask, GraTa, Restyling, Source, Statistics, Tent
from monai_tta.core.entropy_gradients import class_anchors, cosines_by_feature, cosines_by_row
from monai_tta.transforms.shift_mri import BiasFieldShift, RicianNoiseShift

SHAPE = (32, 48, 32)
N_TRAINED, STEPS = 40, 150
READINGS = ("feature", "term", "row")


def say(line):
    """Write a line at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def volume(file):
    """An image or labels ``(1, *SHAPE)``, cut or filled with zeros about its centre."""
    x = torch.as_tensor(nib.load(file).get_fdata(dtype="float32"))
    out = torch.zeros(1, *SHAPE)
    here = [slice(max(0, (n - s) // 2), max(0, (n - s) // 2) + min(n, s)) for n, s in zip(SHAPE, x.shape, strict=True)]
    there = [slice(max(0, (s - n) // 2), max(0, (s - n) // 2) + min(n, s)) for n, s in zip(SHAPE, x.shape, strict=True)]
    out[(0, *here)] = x[tuple(there)]
    return out


def cases(data, split, n):
    """Images and labels of the first cases of a split."""
    with (data / "split.csv").open(encoding="utf-8") as file:
        names = [row["id"] for row in csv.DictReader(file) if row["split"] == split][:n]
    found = {part: {f.name.split(".")[0]: f for f in (data / part).iterdir()} for part in ("images", "labels")}
    return [(volume(found["images"][name]), volume(found["labels"][name])) for name in names]


def standardized(x):
    """Mean 0 and deviation 1."""
    return (x - x.mean()) / x.std()


def shifted(x, seed):
    """The image through a simulated poor scanner: uneven light, then noise."""
    return RicianNoiseShift(severity=2, seed=seed)(BiasFieldShift(severity=2, seed=seed)(x))


def trained(data):
    """A small BasicUNet of three classes with BatchNorm."""
    torch.manual_seed(0)
    network = BasicUNet(3, 1, 3, features=(8, 8, 16, 32, 64, 8), norm="batch")
    optimizer = torch.optim.Adam(network.parameters(), lr=4e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=STEPS)
    loss = DiceCELoss(softmax=True, to_onehot_y=True)
    pairs = cases(data, "source_train", N_TRAINED)
    for _ in range(STEPS):
        chosen = [pairs[i] for i in torch.randint(len(pairs), (2,)).tolist()]
        x, y = (torch.stack(part) for part in zip(*[(standardized(a), b) for a, b in chosen], strict=True))
        optimizer.zero_grad()
        loss(network(x), y).backward()
        optimizer.step()
        schedule.step()
    return network.eval()


def dice(logits, label):
    """Mean Dice of the two structures, in points."""
    found = logits.argmax(1)[0]
    return mean(
        100 * float(2 * ((found == c) & (label[0] == c)).sum() / ((found == c).sum() + (label[0] == c).sum())) for c in (1, 2)
    )


def answers(network, images, method):
    """Logits for each image, adapted to it alone."""
    inferer = AdaptiveInferer(roi_size=SHAPE, method=method, head="softmax")
    with torch.no_grad():
        made = [inferer(x[None], network) for x in images]
    assert all(case.reason is None for case in inferer.cases), inferer.cases[-1].reason
    return made


@torch.no_grad()
def cosines(network, image):
    """For each reading and class: the cosine of each voxel of that class with its anchor, by present statistics."""
    shadow = Statistics(blend=1.0).begin(network, "softmax")
    layer = shadow.module.final_conv
    inputs = []
    layer.register_forward_hook(lambda layer, args, output: inputs.append(args[0]))
    logits = shadow(image[None]).flatten(2)
    weight = layer.weight.flatten(1)
    found = {}
    for reading in READINGS:
        anchors = class_anchors(weight, layer.bias, "softmax", reading)
        each = (
            cosines_by_row(inputs[0].flatten(2), anchors)
            if reading == "row"
            else cosines_by_feature(logits, weight, anchors, reading)
        )
        found[reading] = [each[0, c][logits[0].argmax(0) == c] for c in range(3)]
    return found


def inner_method(name, lr):
    """Four steps of TENT or GraTa."""
    if name == "tent":
        return Tent(optimizer=Adam(lr=lr), steps=4)
    return GraTa(pseudo=ConsistencyTask(restyling=Restyling("mri")), optimizer=Adam(lr=lr), steps=4)


def draw(found, file):
    """Draw how the cosines are distributed: a panel for each reading; solid lines for images as they are, dashed for shifted."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    plt.rcParams |= {"svg.fonttype": "none", "axes.unicode_minus": False, "svg.hashsalt": "stag"}
    figure, axes = plt.subplots(1, len(READINGS), figsize=(12, 3), sharey=True)
    for axis, reading in zip(axes, READINGS, strict=True):
        for style, each in zip(("-", "--"), found.values(), strict=True):
            for c, color in enumerate(("grey", "tab:orange", "tab:blue")):
                heights = torch.histc(torch.cat([case[reading][c] for case in each]), 60, -0.2, 1)
                label = ("background", "anterior", "posterior")[c] if style == "-" else None
                axis.plot(torch.linspace(-0.19, 0.99, 60), heights / heights.sum(), style, color=color, label=label)
        axis.set_title(f'reading="{reading}"')
        axis.set_xlabel("cosine with the class's anchor")
    axes[0].set_ylabel("share of the class's voxels")
    axes[0].legend()
    figure.tight_layout()
    figure.savefig(file, metadata={"Date": None})


def print_cosines(found):
    """A row for each reading and class: median and 5th to 95th percentile, as they are and shifted."""
    for reading in READINGS:
        for c in range(3):
            cells = []
            for each in found.values():
                values = torch.cat([case[reading][c] for case in each]).sort().values
                low, middle, high = (float(values[int(q * (len(values) - 1))]) for q in (0.05, 0.5, 0.95))
                cells.append(f"{middle:.3f} ({low:.3f} to {high:.3f})")
            say(f"| {reading} | {c} | {' | '.join(cells)} |")


def measure(data, file, name, n):
    """Print the tables and draw the figure."""
    network = trained(data)
    pairs = cases(data, "target", n)
    labels = [y for _, y in pairs]
    images = {
        "as they are": [standardized(x) for x, _ in pairs],
        "shifted": [standardized(shifted(x, seed)) for seed, (x, _) in enumerate(pairs)],
    }
    found = {way: [cosines(network, x) for x in some] for way, some in images.items()}
    draw(found, file)
    print_cosines(found)

    def scores(method, way="shifted"):
        return [dice(answer, y) for answer, y in zip(answers(network, images[way], method), labels, strict=True)]

    for method in (Source(), Statistics(blend=1.0)):
        for way in images:
            say(f"| {method!r}, {way} | {mean(scores(method, way)):.1f} |")
    for lr, weights in ((1e-3, (1.0,)), (1e-2, (0.1, 1.0))):
        inner = inner_method(name, lr)
        before = scores(inner)
        say(f"| {name}, {lr} | | | {mean(before):.1f} |")
        for reading in READINGS:
            for weight in weights:
                after = scores(STAG(inner=inner, reading=reading, weight=weight))
                changes = [a - b for a, b in zip(after, before, strict=True)]
                spread = f"{stdev(changes):.2f} | {min(changes):+.1f} to {max(changes):+.1f}"
                say(f"| {name}, {lr} | {reading} | {weight} | {mean(changes):+.2f} | {spread} |")


def cost():
    """Print ratios of CPU seconds: the median of alternating runs, and the quarter to three quarters of them."""
    image = torch.rand(1, *SHAPE, generator=torch.Generator().manual_seed(0))
    for width, runs in ((8, 7), (32, 3)):
        network = BasicUNet(3, 1, 3, features=(width, width, 16, 32, 64, width), norm="batch").eval()
        for inner in (Tent(), GraTa(pseudo=ConsistencyTask(restyling=Restyling("mri")))):
            for reading in ("feature", "row"):  # "term" costs what "feature" does
                ratios = []
                for _ in range(runs + 1):
                    seconds = []
                    for method in (inner, STAG(inner=inner, reading=reading)):
                        began = time.process_time()
                        answers(network, [image], method)
                        seconds.append(time.process_time() - began)
                    ratios.append(seconds[1] / seconds[0])
                ratios = sorted(ratios[1:])  # the first call loads libraries
                around = f"{ratios[len(ratios) // 4]:.2f} to {ratios[-1 - len(ratios) // 4]:.2f}"
                say(f"| {width} | {type(inner).__name__} | {reading} | {median(ratios):.2f} | {around} |")


if __name__ == "__main__":
    torch.set_num_threads(1)
    if sys.argv[1] == "cost":
        cost()
    else:
        name, n = [*sys.argv[3:], *("tent", "10")[len(sys.argv) - 3 :]]
        measure(Path(sys.argv[1]), Path(sys.argv[2]), name, int(n))
