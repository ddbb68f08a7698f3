"""The table of fine-tuning on scribbled drawings in docs/maco.md: `python -m docs.scribbles` (some minutes)."""

import copy

import torch
from monai.losses import DiceCELoss
from monai.networks.nets import UNet
from scipy.ndimage import distance_transform_edt
from torch import Tensor, nn

from monai_tta import Adam, Everything
from monai_tta.preparation.finetune_scribbles import FinetuneSettings, finetune_on_scribbles
from monai_tta.transforms.phantoms import Phantom, mri_phantom
from monai_tta.transforms.scribbles import ScribbleToSoftLabel

SIZE = (24, 28, 24)
WAYS = {
    "scale and shift": FinetuneSettings(),
    "the same, without consistency": FinetuneSettings(consistency_weight=0),
    "all weights, lr 1e-4": FinetuneSettings(select=Everything(), optimizer=Adam(lr=1e-4)),
    "scale and shift, from all voxels": FinetuneSettings(least_weight=0),
}


def normalized(head: Phantom) -> Tensor:
    """The image as a z-score, ``(1, *spatial)``."""
    return (head.image - head.image.mean()) / head.image.std()


def trained_network() -> nn.Module:
    """A small network, trained on twelve drawn heads of the reference scanner."""
    heads = [mri_phantom(SIZE, seed) for seed in range(12)]
    torch.manual_seed(0)
    network = UNet(3, 1, 2, (8, 16, 32), (2, 2), norm="batch")
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    loss = DiceCELoss(softmax=True, to_onehot_y=True)
    for _ in range(60):
        batch = [heads[k] for k in torch.randint(12, (4,)).tolist()]
        logits = network(torch.stack([normalized(head) for head in batch]))
        optimizer.zero_grad()
        loss(logits, torch.stack([head.label for head in batch])).backward()
        optimizer.step()
    return network.eval()


def scribbled(head: Phantom) -> Tensor:
    """A stroke in the middle of the structure (1), and short ones in a ring around it (2), in the slice where it is largest."""
    structure = head.label[0] == 1
    depth, away = (torch.as_tensor(distance_transform_edt(mask.numpy())) for mask in (structure, ~structure))
    scribble = torch.zeros(1, *SIZE)
    slice_ = int(structure.sum((0, 1)).argmax())
    row = int(structure[:, :, slice_].sum(0).argmax())
    scribble[0, :, row, slice_] = (depth[:, row, slice_] > 1.5).float()
    ring = (away[:, :, slice_] > 1.5) & (away[:, :, slice_] < 3)
    ring[:, 1::2] = False
    scribble[0, :, :, slice_][ring] = 2
    return scribble


@torch.no_grad()
def mean_dice(network: nn.Module, heads: list[Phantom]) -> float:
    """The structure's mean Dice."""
    found = []
    for head in heads:
        mask, truth = network(normalized(head)[None]).argmax(1)[0] == 1, head.label[0] == 1
        found.append(float(2 * (mask & truth).sum() / (mask.sum() + truth.sum())))
    return sum(found) / len(found)


def main() -> None:
    """Print the table."""
    network = trained_network()
    print("| scanner | half distance | unadapted |", " | ".join(WAYS), "|")  # noqa: T201
    for scanner in ("soft", "dim"):
        heads = [mri_phantom(SIZE, 100 + seed, scanner) for seed in range(10)]
        for half_distance in (1.0, 3.0):
            cases = []
            for head in heads[:5]:
                label, weight = ScribbleToSoftLabel((2, 1), half_distance, spacing=(1, 1, 1))(scribbled(head))
                cases.append({"image": normalized(head), "soft_label": label, "weight": weight})
            row = [mean_dice(network, heads[5:])]
            for settings in WAYS.values():
                tuned = copy.deepcopy(network)
                tuned.load_state_dict(finetune_on_scribbles(network, cases, settings=settings).state)
                row.append(mean_dice(tuned, heads[5:]))
            print(f"| {scanner} | {half_distance} |", " | ".join(f"{dice:.3f}" for dice in row), "|", flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
