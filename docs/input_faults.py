"""How well input checks work: `python -m docs.input_faults BUNDLE DATA [--out FILE]`.

Half of the first domain's images in the bundle's configs/compare.yaml (those with even numbers) are home: all figures, spreads
and limits come from them. Each fault is put into images of the other half, and the check is asked. Untouched images of that half,
and of every other domain without a simulated scanner, show the false alarms. `--rows` puts the tables of several runs together.
"""

import argparse
import json
import sys
from collections import defaultdict
from dataclasses import replace
from datetime import date
from pathlib import Path

import nibabel as nib
import torch
from torch.nn import functional as F

from monai_tta.evaluation.labelled_data import LabelledDomain
from monai_tta.evaluation.protocol import protocol_of
from monai_tta.pipeline.bundle import load_bundle
from monai_tta.pipeline.check_input import check_image, measure_image
from monai_tta.pipeline.input_view import InputView
from monai_tta.pipeline.shipped_bundles import find_bundle
from monai_tta.quality.corrections import Reorder, ScaledSpacing
from monai_tta.quality.input_reference import reference_of_cases
from monai_tta.quality.possible_corrections import canonical_axes, possible_corrections

SAME_ANSWER = 0.9  # a fault that leaves the network's answer so much alike (Dice) does no harm


class Images:
    """A bundle's images as loaded; photographs maybe at a part of their size."""

    def __init__(self, view, shrink):
        self.view = view
        self.shrink = shrink

    def load(self, path):
        """One image ``(C, *spatial)``."""
        image = self.view.loaded(Path(path))
        if self.shrink == 1:
            return image
        size = [round(n / self.shrink) for n in image.shape[1:]]
        return like(image, F.interpolate(torch.as_tensor(image)[None].float(), size, mode="area")[0].round())

    def answer(self, image):
        """The source's foreground, and whether it is on the loaded image's grid."""
        prepared = self.view.prepared(image)
        p, head = self.view.answered(prepared)
        return p.argmax(0) if head == "softmax" else (p[0] > 0.5).long(), prepared


def like(image, values):
    """Values with an image's affine."""
    return type(image)(values.contiguous(), affine=image.affine)


def intensity_faults(image):
    """Wrong intensities, by name: the image, and what must be named."""
    low, high = float(image.min()), float(image.max())
    yield "grey inverted", low + high - image, "inverted"
    yield "HU + 1024", image + 1024, "minus 1024"
    yield "HU - 1024", image - 1024, "plus 1024"
    yield "scaled to 0..255", 255 * (image - low) / (high - low), "0 to 255"
    yield "rescale slope lost", (image + 1024) / 4 + 700, "rescale slope"
    yield "normalised to 0..1", (image - low) / (high - low), "normalised"
    yield "normalised to mean 0", (image - image.mean()) / image.std(), "normalised"
    if len(image) == 3:
        yield "BGR", image.flip([0]), "colours"


def grid_faults(image):
    """Wrong axes, spacings and fields of view."""
    dims = image.ndim - 1
    for correction in possible_corrections(image):
        if isinstance(correction, Reorder):
            yield f"axes: {correction.name}", correction.undo(image, image), correction.name
    middle = [slice(n // 4, n - n // 4) for n in image.shape[1:]]
    yield "cropped to the middle", image[(slice(None), *middle)].clone(), "cropped"
    longest = max(range(dims), key=lambda k: image.shape[k + 1])
    half = [slice(0, n // 2) if k == longest else slice(None) for k, n in enumerate(image.shape[1:])]
    yield "half of the longest axis", image[(slice(None), *half)].clone(), "cropped"
    widths = [n // 3 for n in reversed(image.shape[1:]) for _ in (0, 1)]
    yield "padded with 0", like(image, F.pad(torch.as_tensor(image), widths)), "border"
    if dims == 3:
        places = canonical_axes(image)
        swapped = image.clone()
        swapped.affine = torch.diag(torch.tensor([-1.0, -1, 1, 1], dtype=image.affine.dtype)) @ image.affine
        axes = ",".join(str(k) for k in range(3) if places[k] in (0, 1))
        yield "LPS taken for RAS", swapped, f"mirror {axes}"
        yield "spacing in cm", ScaledSpacing("", "", (0.1,) * 3).apply(image), "spacing x 10"
        yield "spacing times ten", ScaledSpacing("", "", (10.0,) * 3).apply(image), "spacing / 10"
        yield "spacing lost: 1, 1, 1", like_ones(image), "spacing lost"
        yield "slices twice as far apart", ScaledSpacing("", "", (1.0, 1.0, 2.0)).apply(image), "spacing"


def like_ones(image):
    """The image with voxels of 1 x 1 x 1."""
    sizes = image.affine[:3, :3].norm(dim=0)
    return ScaledSpacing("", "", tuple(float(1 / size) for size in sizes)).apply(image)


def other_images(files, image):
    """Images of another modality on this image's grid: a box of a volume, or the middle slice of it as a grey picture."""
    for file in files:
        volume = torch.as_tensor(nib.load(file).get_fdata(), dtype=torch.float32)
        if image.ndim == 4:
            starts = [max(0, (n - m) // 2) for n, m in zip(volume.shape, image.shape[1:], strict=True)]
            box = volume[tuple(slice(s, s + m) for s, m in zip(starts, image.shape[1:], strict=True))]
            yield "another modality", like(image, box[None]), "unlike"
        else:
            slice_ = volume[:, :, volume.shape[2] // 2]
            slice_ = slice_.clamp(-160, 240) if volume.min() < -500 else slice_
            grey = 255 * (slice_ - slice_.min()) / (slice_.max() - slice_.min())
            grey = F.interpolate(grey[None, None], image.shape[1:], mode="bilinear")[0].round()
            yield "another modality", like(image, grey.repeat(len(image), 1, 1)), "unlike"


def harmless(images, image, bad, name):
    """Whether the network sees, or answers, the same in spite of the fault."""
    answer, prepared = images.answer(image)
    try:
        other, seen = images.answer(bad)
    except Exception:
        return False
    if seen.shape == prepared.shape and torch.allclose(torch.as_tensor(seen), torch.as_tensor(prepared), rtol=1e-3, atol=1e-3):
        return True
    fault = next((c for c in possible_corrections(image) if f"axes: {c.name}" == name), None)
    if fault is None or tuple(seen.shape[1:]) != tuple(bad.shape[1:]):
        return False
    other = fault.apply(other[None])[0]
    both, either = ((other == answer) & (answer > 0)).sum(), (answer > 0).sum() + (other > 0).sum()
    return bool(2 * both / either.clamp_min(1) >= SAME_ANSWER)


def wilson(k, n):
    """A share with its 95 % interval."""
    if not n:
        return "-"
    z, p = 1.96, k / n
    middle, half = p + z * z / (2 * n), z * (p * (1 - p) / n + z * z / (4 * n * n)) ** 0.5
    low, high = max(0, middle - half) / (1 + z * z / n), (middle + half) / (1 + z * z / n)
    return f"{k} of {n}, {p:.0%} ({low:.0%} to {high:.0%})"


def table(rows, alarms, head):
    """The figures in Markdown."""
    by = defaultdict(list)
    for row in rows:
        by[row["fault"]].append(row)
    columns = "| fault | images | no harm | noticed | named right | by one name | how sure |"
    lines = [head, "", columns, "|---" * 7 + "|"]
    for fault, found in by.items():
        bad = [row for row in found if not row["harmless"]]
        right = [row for row in bad if row["right"]]
        sure = f"{sum(r['sure'] for r in right) / len(right):.2f}" if right else ""
        counts = [len(found), len(found) - len(bad), sum(r["noticed"] for r in bad), len(right), sum(r["alone"] for r in right)]
        lines.append(f"| {fault} | {' | '.join(map(str, counts))} | {sure} |")
    bad = [row for row in rows if not row["harmless"]]
    lines += ["", f"Faults that harm: noticed {wilson(sum(r['noticed'] for r in bad), len(bad))};"]
    lines += [f"named right {wilson(sum(r['right'] for r in bad), len(bad))}.", ""]
    lines += [f"False alarms, {label}: {wilson(sum(found), len(found))}." for label, found in alarms.items()]
    return "\n".join(lines)


def ask(images, reference, image, bad, fault, expected):
    """One row."""
    is_harmless = harmless(images, image, bad, fault)
    finding = check_image(images.view, reference, bad)
    right = expected in finding.names and len(finding.names) <= 2
    sure = next((r.sure for r in finding.remedies if r.correction.name == expected), 1.0)
    found = {"noticed": finding.noticed, "right": right, "alone": len(finding.names) == 1, "sure": sure}
    distances = {"distance": finding.distance, "limit": finding.limit}
    return {"fault": fault, "harmless": is_harmless, "names": finding.names, **found, **distances}


def main():
    """Measure and print the table; all rows go to --out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--checkpoint", default="model.pt")
    parser.add_argument("--most", type=int, default=14, help="how many images at home, and how many others with faults")
    parser.add_argument("--faulty", type=int, default=4, help="into how many of the others each fault is put")
    parser.add_argument("--skip", type=int, default=0, help="how many of the others to leave out before")
    parser.add_argument("--rows", type=Path, nargs="*", default=[], help="print the table of these files instead, together")
    parser.add_argument("--shrink", type=float, default=1, help="photographs this many times smaller")
    parser.add_argument("--home-domain", default="", help="the first if not given")
    parser.add_argument("--keys", nargs="*", default=[], help="NAME=NUMBER in the home domain's keys, e.g. skip=0")
    parser.add_argument("--other", type=Path, nargs="*", default=[], help="NIfTI volumes of another modality")
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    if chosen.rows:
        parts = [json.loads(file.read_text(encoding="utf-8")) for file in chosen.rows]
        sys.stdout.write(table([row for part in parts for row in part["rows"]], parts[0]["alarms"], str(chosen.bundle)) + "\n")
        return
    root = find_bundle(chosen.bundle)
    domains = [domain for domain in protocol_of(root).domains if not domain.shift]
    home = next((d for d in domains if d.label == chosen.home_domain), domains[0])
    keys = {name: int(value) for name, value in (pair.split("=") for pair in chosen.keys)}
    items = LabelledDomain(root, chosen.data, replace(home, keys=home.keys | keys)).items
    rows, alarms = [], {}
    with InputView(load_bundle(root, chosen.checkpoint)) as view:
        images = Images(view, chosen.shrink)
        learnt = [measure_image(view, images.load(item["image"])) for item in items[0::2][: chosen.most]]
        reference = reference_of_cases([figures for figures, _ in learnt], [scale for _, scale in learnt])
        others = items[1::2][: chosen.most]
        cases = {"home, held out": others}
        cases |= {d.label: LabelledDomain(root, chosen.data, d).items[: chosen.most] for d in domains if d is not home}
        for label, listed in cases.items():
            alarms[label] = [check_image(view, reference, images.load(item["image"])).noticed for item in listed]
        for item in others[chosen.skip : chosen.skip + chosen.faulty]:
            image = images.load(item["image"])
            faults = [*grid_faults(image), *intensity_faults(image), *other_images(chosen.other, image)]
            faults.append(("a mask", images.load(item["label"]), "mask"))
            for fault, bad, expected in faults:
                rows.append(ask(images, reference, image, bad, fault, expected))
            if chosen.out is not None:  # after each image: a run that is stopped keeps what it has
                chosen.out.write_text(json.dumps({"rows": rows, "alarms": alarms}, indent=1), encoding="utf-8")
    head = f"{root.name}, {chosen.checkpoint}: {len(learnt)} home images; {date.today()}"
    sys.stdout.write(table(rows, alarms, head) + "\n")


if __name__ == "__main__":
    main()
