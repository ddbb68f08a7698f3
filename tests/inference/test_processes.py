"""Several processes: independent cases spread over them, or one continual stream that all adapt."""

import sys
import time

import pytest
import torch

from monai_tta import AdaptiveInferer, Tent
from monai_tta.core.gradients import gradient
from monai_tta.core.optimizers import SGD
from monai_tta.inference.streams import streams
from tests.bundles.test_source_bundle import BUNDLE, CONFIGS, OVERLAYS, bundle_run
from tests.small import image, network

METHOD = Tent(optimizer=SGD(lr=0.1, momentum=0.0, nesterov=False))


def stream(made, net):
    """The moving tensors that a continual inferer keeps."""
    return [t.detach().clone() for t in streams[made].shadows[net][1].moving]


def learner(rank, folder, images):
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    net, made = network(), AdaptiveInferer(method=METHOD, head="softmax", reset="never", together=True, precision="exact")
    carried = []
    for x in images[rank]:
        with torch.no_grad():
            made(x, net)
        carried.append(stream(made, net))
    torch.save((carried, [c.reason for c in made.cases]), f"{folder}/{rank}.pt")
    time.sleep(1)  # for gloo's threads to release tensors
    torch.distributed.destroy_process_group()


def both(folder, images):
    """For each process: its moving tensors after each case, and the reasons for unadapted answers."""
    processes = torch.multiprocessing.spawn(learner, (str(folder), images), nprocs=2, join=False)
    end = time.monotonic() + 120
    while not processes.join(timeout=1):
        if time.monotonic() > end:
            for process in processes.processes:
                process.kill()
            pytest.fail("two processes did not finish within two minutes")
    return [torch.load(folder / f"{k}.pt", weights_only=True) for k in range(2)]


@pytest.mark.filterwarnings("ignore:answered without adaptation")
def test_all_processes_take_the_same_steps_along_the_mean_gradient(tmp_path):
    images = [[image(size=8, seed=2 * k + rank) for k in range(3)] for rank in range(2)]
    images[1][1] = torch.ones_like(images[1][1])  # cannot be adapted on: no process learns from this round, and none waits
    (first, why), (second, why_second) = both(tmp_path, images)
    assert why[0] is why[2] is why_second[0] is why_second[2] is None
    assert "another process" in why[1] and "constant" in why_second[1]
    shadow = METHOD.begin(network(), "softmax")
    for k in range(3):
        assert all(torch.equal(a, b) for a, b in zip(first[k], second[k], strict=True))
        if k != 1:
            slopes = [gradient(lambda w: METHOD.loss(shadow, w), images[r][k], shadow.moving)[1] for r in range(2)]
            with torch.no_grad():
                for tensor, a, b in zip(shadow.moving, *slopes, strict=True):
                    tensor -= 0.1 * (a + b) / 2
        for mine, expected in zip(first[k], shadow.moving, strict=True):
            torch.testing.assert_close(mine, expected.detach())


def test_together_needs_one_continual_stream():
    with pytest.raises(ValueError, match="one continual stream"):
        AdaptiveInferer(together=True)


@pytest.mark.parametrize("more", [[], ["together.yaml"]])
def test_a_bundle_over_two_processes(phantom_set, tmp_path, more):
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m")
    for image_file in sorted((phantom_set / "images").iterdir())[3:]:
        image_file.unlink()
    words = ["--dataset_dir", phantom_set / "images"]
    files = [CONFIGS / "inference.yaml", OVERLAYS / "adapt.yaml"]
    spread = [*files, OVERLAYS / "multi_process.yaml", *(OVERLAYS / name for name in more)]
    bundle_run(BUNDLE, spread, *words, "--output_dir", tmp_path / "two", launcher=(sys.executable, *launcher))
    names = sorted(p.name for p in (tmp_path / "two").iterdir())
    assert len(names) == 3
    if not more:
        bundle_run(BUNDLE, files, *words, "--output_dir", tmp_path / "one")
        assert names == sorted(p.name for p in (tmp_path / "one").iterdir())
        for name in names:
            assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
