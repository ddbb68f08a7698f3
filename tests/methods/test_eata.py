"""EATA's file: made from the source's windows alone, bound to its network, and refused in words."""

import numpy as np
import pytest
import torch

from monai_tta import EATA, Everything
from monai_tta.core.errors import CannotAdapt
from monai_tta.core.fisher_file import FisherError, FisherInformation, fisher_file
from monai_tta.preparation.fisher import fisher_information
from tests.small import image, network, run, same, state


@pytest.mark.parametrize("head", ["softmax", "sigmoid"])
@pytest.mark.parametrize("dims", [2, 3])
def test_a_file_is_made_saved_and_used(dims, head, tmp_path):
    net = network(dims=dims, head=head)
    before = state(net)
    information = fisher_information(net, image(dims, size=8, n=2).split(1), head)
    assert same(before, state(net)) and information.about["windows"] == 2
    weights = tmp_path / "model.pt"
    information.save(file := fisher_file(weights))
    again = FisherInformation.load(file)
    assert all(torch.equal(again.values[name], value) for name, value in information.values.items())
    method = EATA(reliable=1.0, fisher_weight=1e5).for_checkpoint(weights)
    assert method.file == str(file) and method.files == (file,) and str(tmp_path) not in method.record_name
    distances = []
    for one in (method, EATA(reliable=1.0, fisher_weight=0)):
        many = EATA(**{**vars(one), "steps": 3})
        _, case = run(net, many, image(dims), head=head)
        assert case.reason is None and str(tmp_path) not in case.method
        distances.append(case.weight_distance)
    assert 0 < distances[0] < distances[1]


def test_what_does_not_belong_to_the_network_is_refused(tmp_path):
    net = network()
    file = tmp_path / "fisher.npz"
    fisher_information(net, [image(size=8)], "softmax").save(file)
    with pytest.raises(CannotAdapt, match="none beside it"):
        EATA().begin(net, "softmax")
    with pytest.raises(CannotAdapt, match="^fisher.npz is of another network"):
        EATA(file=str(file)).begin(network("group"), "softmax")
    with pytest.raises(CannotAdapt, match="no Fisher information of 0.weight, which moves"):
        EATA(file=str(file), select=Everything()).begin(net, "softmax")
    with pytest.raises(FileNotFoundError):
        EATA(file=str(tmp_path / "no.npz")).for_checkpoint(tmp_path / "model.pt")
    np.savez(file, description=np.array([{"format": 1}], dtype=object))
    with pytest.raises(FisherError, match="cannot be read as Fisher information"):
        FisherInformation.load(file)
    with pytest.raises(FisherError, match="not finite"):
        FisherInformation({"a": torch.tensor([float("nan")])}, "").save(file)


def test_no_step_where_no_voxel_is_kept():
    _, case = run(network(), EATA(reliable=1e-6, fisher_weight=0))
    assert case.weight_distance == 0 and case.steps[0].notes["voxels kept"] == 0
