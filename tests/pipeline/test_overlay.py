"""What `monai-tta overlay` says of a bundle: true words for each kind of layer, and the cause where it cannot look."""

import json

import pytest
import yaml
from typer.testing import CliRunner

from monai_tta.cli.app import app
from monai_tta.pipeline.overlay import look, overlay
from tests.zoo import KINDS, UNET, make

KIND = KINDS["unet without affine"]


def bundle(root, **sections):
    made = make(root / "bundle", KIND)
    file = made / "configs" / "inference.json"
    file.write_text(json.dumps(json.loads(file.read_text(encoding="utf-8")) | sections), encoding="utf-8")
    return made


def statistics(root, norm):
    return dict(look(bundle(root, network_def={**UNET, "norm": norm})).lines())["statistics"]


@pytest.mark.parametrize(
    "norm, said",
    [
        ("batch", "3 BatchNorm3d: 3 hold the source's, and can use the image's own or a blend"),
        (["group", {"num_groups": 2}], "3 GroupNorm: 3 always use the image's own, with nothing of the source to blend with"),
        ("instance", "3 InstanceNorm3d: 3 always use the image's own, with nothing of the source to blend with"),
        (None, "no layer normalises"),
    ],
)
def test_whose_statistics_is_true_of_each_kind_of_layer(norm, said, tmp_path):
    found = statistics(tmp_path, norm)
    count = found.split(" ")[0]
    assert found == (said if norm is None else said.replace("3 ", f"{count} "))


@pytest.mark.parametrize(
    "section, cause",
    [
        ({"_target_": "NoSuchNetwork"}, "NoSuchNetwork"),
        ({**UNET, "_target_": "UNet", "chanels": 3}, "chanels"),
        ({**UNET, "channels": [4]}, "channels"),
        ("$__import__('no_such_package')", "no_such_package"),
        ("$exit(0)", "SystemExit"),
        ("$1 / 0", "division by zero"),
    ],
)
def test_a_network_that_cannot_be_built_has_a_cause_and_still_an_overlay(section, cause, tmp_path):
    root = bundle(tmp_path, network_def=section)
    file = tmp_path / "o.yaml"
    result = CliRunner().invoke(app, ["overlay", str(root), "--out", str(file), "--json"])
    assert result.exit_code == 0, result.output
    found = {(entry["of"], entry["found"]) for entry in json.loads(result.stdout)["findings"]}
    problems = [value for name, value in found if name == "will not work"]
    assert any("cannot be built here" in problem and cause in problem for problem in problems), problems
    assert (
        ("network", "cannot be built") in found and ("would move", "not known") in found and ("statistics", "not known") in found
    )
    written = yaml.safe_load(file.read_text(encoding="utf-8"))
    assert written["evaluator#inferer"] == "@adaptive_inferer" and written["adaptive_inferer"]["head"] == "softmax"


def test_a_network_that_hides_its_layers_is_said_to(tmp_path):
    root = bundle(tmp_path, network_def="$torch.jit.script(torch.nn.Conv3d(1, 2, 1))")
    findings = look(root)
    assert findings.network == "hides its layers" and findings.problems and "adapts the network" in overlay(findings)


def test_the_checkpoint_that_is_missing_is_the_one_that_the_config_names(tmp_path):
    root = bundle(tmp_path, ckpt="models/best.pt")
    assert any("no weights: ckpt names best.pt" in problem for problem in look(root).problems)
    (root / "models" / "model.pt").rename(root / "models" / "best.pt")
    assert not look(root).problems
