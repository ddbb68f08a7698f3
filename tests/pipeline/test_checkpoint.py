"""The checkpoint that a bundle's own config names, and weights that fit wholly or not at all."""

import json

import pytest
import torch

from monai_tta.pipeline.bundle import BundleError, load_bundle
from monai_tta.pipeline.checkpoint import checkpoint_name
from monai_tta.pipeline.config_changes import ConfigChanges
from tests.zoo import KINDS, make

KIND = KINDS["unet without affine"]
LOADER = {
    "_target_": "CheckpointLoader",
    "load_path": "$@bundle_root + '/models/best.pt'",
    "load_dict": {"weights": "@network"},
}


@pytest.fixture
def zoo(tmp_path):
    return make(tmp_path / "bundle", KIND)


def add(root, **sections):
    config = root / "configs" / "inference.json"
    config.write_text(json.dumps(json.loads(config.read_text(encoding="utf-8")) | sections), encoding="utf-8")


def move(root, name, wrap=lambda state: state):
    state = torch.load(root / "models" / "model.pt", weights_only=True)
    target = root / "models" / name
    torch.save(wrap(state), target)
    (root / "models" / "model.pt").unlink()
    return state


def same(network, state):
    return all(torch.equal(tensor, state[name]) for name, tensor in network.state_dict().items())


@pytest.mark.parametrize(
    "sections",
    [
        {"checkpointloader": LOADER},
        {"handlers": [{"_target_": "StatsHandler"}, LOADER]},
        {"handlers": [{"_target_": "monai.handlers.CheckpointLoader", "load_path": "models/best.pt"}]},
        {"ckpt": "$@bundle_root + '/models/best.pt'", "handlers": [{**LOADER, "load_path": "@ckpt"}]},
        {"ckpt_path": "models/best.pt"},
        {"checkpoint": "best.pt"},
        {"a_loader": {**LOADER, "load_path": "models/none.pt", "_disabled_": True}, "checkpoint": "best.pt"},
    ],
)
def test_the_config_says_which(sections, zoo):
    add(zoo, **sections)
    state = move(zoo, "best.pt", lambda state: {"weights": state, "epoch": 3} if "handlers" in sections else state)
    if sections.get("handlers", [{}])[-1].get("load_dict") is None and "handlers" in sections:
        torch.save(state, zoo / "models" / "best.pt")
    assert checkpoint_name(zoo, None) == "best.pt"
    assert same(load_bundle(zoo).network, state) and same(load_bundle(zoo, "best.pt").network, state)


def test_without_a_word_it_is_the_usual_one(zoo):
    assert checkpoint_name(zoo, None) == "model.pt" and checkpoint_name(zoo, "x.pt") == "x.pt"


def test_one_outside_of_models_is_found_from_there(zoo):
    (zoo / "weights").mkdir()
    state = torch.load(zoo / "models" / "model.pt", weights_only=True)
    torch.save(state, zoo / "weights" / "w.pth")
    add(zoo, ckpt="$@bundle_root + '/weights/w.pth'")
    name = checkpoint_name(zoo, None)
    assert (zoo / "models" / name).resolve() == (zoo / "weights" / "w.pth").resolve() and "bundle" not in name
    assert same(load_bundle(zoo, name).network, state)


def test_a_change_of_the_config_may_name_another(zoo):
    add(zoo, checkpointloader={**LOADER, "load_path": "$@bundle_root + '/models/model.pt'"})
    changes = ConfigChanges.of((), {"checkpointloader#load_path": "models/other.pt"})
    assert checkpoint_name(zoo, None, changes).endswith("other.pt")
    with pytest.raises(BundleError, match="other.pt, which checkpointloader#load_path of the config names, does not exist"):
        load_bundle(zoo, changes=changes)


def test_a_named_one_that_is_missing_is_not_replaced_by_the_usual_one(zoo):
    add(zoo, checkpointloader=LOADER)
    with pytest.raises(BundleError, match="best.pt, which checkpointloader#load_path"):
        load_bundle(zoo)


def test_several_that_differ_are_a_question(zoo):
    add(zoo, one=LOADER, two={**LOADER, "load_path": "models/model.pt"})
    with pytest.raises(BundleError, match=r"several checkpoints.*--checkpoint"):
        checkpoint_name(zoo, None)
    assert load_bundle(zoo, "model.pt")


def test_a_path_that_cannot_be_evaluated_is_told(zoo):
    add(zoo, checkpointloader={**LOADER, "load_path": "$1 / 0"})
    with pytest.raises(BundleError, match="checkpointloader#load_path"):
        load_bundle(zoo)
    add(zoo, checkpointloader={**LOADER, "load_path": "$3"})
    with pytest.raises(BundleError, match="should name a checkpoint, found 3"):
        load_bundle(zoo)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {"state_dict": state, "epoch": 3},
        lambda state: {"model": {"state_dict": state}},
        lambda state: {f"module.{name}": tensor for name, tensor in state.items()},
        lambda state: {"network": {f"_orig_mod.{name}": tensor for name, tensor in state.items()}},
    ],
)
def test_weights_are_found_inside_what_training_wrote(wrap, zoo):
    state = move(zoo, "model_.pt", wrap)
    (zoo / "models" / "model_.pt").rename(zoo / "models" / "model.pt")
    assert same(load_bundle(zoo).network, state)


@pytest.mark.parametrize(
    "change, said",
    [
        (lambda state, first: state.pop(first), "it lacks {first}"),
        (lambda state, first: state.update({"more.weight": torch.ones(1)}), "the network lacks: more.weight"),
        (lambda state, first: state.update({first: torch.ones(3, 2)}), "other shapes: {first} 3x2 for"),
        (lambda state, first: state.update({first: "text"}), "{first} no numbers for"),
    ],
)
def test_weights_that_do_not_fit_are_never_loaded_in_part(change, said, zoo):
    path = zoo / "models" / "model.pt"
    state = torch.load(path, weights_only=True)
    first = next(iter(state))
    change(state, first)
    torch.save(state, path)
    with pytest.raises(BundleError) as error:
        load_bundle(zoo)
    assert "does not fit UNet" in str(error.value) and said.format(first=first) in str(error.value)
    assert "Nothing was loaded" in str(error.value)
