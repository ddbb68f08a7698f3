"""Changes of a bundle's config from the command line: read as MONAI reads them, noticed, and never ignored in silence."""

import json

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from monai_tta.cli.app import app
from monai_tta.evaluation.contenders import Contender
from monai_tta.evaluation.labelled_data import LabelledDomain
from monai_tta.evaluation.plan import ComparisonPlan
from monai_tta.evaluation.protocol import Domain
from monai_tta.methods import Careful
from monai_tta.pipeline.bundle import BundleError, load_bundle
from monai_tta.pipeline.bundle_config import inference_digest, read_parser
from monai_tta.pipeline.bundle_predictor import CHANGED_CONFIG, check_predictor_config
from monai_tta.pipeline.config_changes import ConfigChanges, parse_entries
from monai_tta.pipeline.shipped_bundles import BUNDLES
from monai_tta.preparation.source_data import load_source
from tests.attack.arena import save, small_bundle, volume
from tests.small import stump

BUNDLE = BUNDLES / "hippocampus_mri"


@pytest.mark.parametrize(
    "text, name, value",
    [
        ("split=source_val", "split", "source_val"),
        ("a#b=3", "a#b", 3),
        ("a::b=1e-3", "a#b", 1e-3),
        ("--a=[4, 8]", "a", [4, 8]),
        ("a=(4, 8)", "a", [4, 8]),
        ("a=[x, y]", "a", ["x", "y"]),
        ('a={"_target_": "UNet", "norm": null}', "a", {"_target_": "UNet", "norm": None}),
        ("a={_target_: UNet}", "a", {"_target_": "UNet"}),
        ("a=True", "a", True),
        ("a=false", "a", False),
        ("a=None", "a", None),
        ("a=$@b + 1", "a", "$@b + 1"),
        ("a=@b", "a", "@b"),
        ("a=x=y", "a", "x=y"),
        ('a="3"', "a", "3"),
    ],
)
def test_a_value_is_read_as_in_a_config(text, name, value):
    assert parse_entries([text]) == {name: value}


@pytest.mark.parametrize("texts", [["a"], ["=3"], ["a="], ["a=[1"], ["a=1", "a=2"]])
def test_what_is_no_entry_is_refused(texts):
    with pytest.raises(ValueError, match="--set"):
        parse_entries(texts)


def changed(root, *texts, files=()):
    return read_parser(root, "inference", changes=ConfigChanges.of(files, parse_entries(texts)))


def test_entries_are_set_after_files_which_lie_over_each_other(tmp_path):
    root = small_bundle(tmp_path / "b")
    (root / "configs" / "one.yaml").write_text("inferer#overlap: 0.1\nnetwork_def#channels: [8, 8]\n", encoding="utf-8")
    other = tmp_path / "two.json"
    other.write_text(json.dumps({"inferer#overlap": 0.2}), encoding="utf-8")
    found = changed(root, "network_def#num_res_units=0", "network_def#act=PRELU", files=("one.yaml", other))
    assert (found["inferer#overlap"], found["network_def#channels"]) == (0.2, [8, 8])
    assert found["network_def#num_res_units"] == 0 and found["network_def#act"] == "PRELU", (
        "an argument that was not given before"
    )
    assert found["network_def#in_channels"] == 1


@pytest.mark.parametrize(
    "text, said",
    [
        ("netwrok_def#norm=batch", "has no 'netwrok_def'.*'network_def'"),
        ("network_def#channels#9=3", "2 entries in network_def#channels"),
        ("network#norm=batch", "no entries of its own"),
        ("evaluator#network#norm=1", "set network#norm instead"),
        ("preprocessing#transforms#a#keys=x", "numbered from 0"),
        ("typo=3", "has no 'typo'"),
        ("output_dir=/x", "set by the command's --out"),
        ("dataset_dir=/x", "--dataset-dir"),
        ("bundle_root=/x", "BUNDLE"),
        ("split=target", "has no 'split'"),
    ],
)
def test_an_entry_that_nothing_would_notice_is_refused(text, said, tmp_path):
    with pytest.raises(BundleError, match=said):
        changed(small_bundle(tmp_path / "b"), text)


def test_the_network_is_the_changed_one(tmp_path):
    root = small_bundle(tmp_path / "b")
    source = load_bundle(root, None, None, ConfigChanges.of((), {"network_def#channels": [6, 6]}))
    assert {p.shape[0] for p in source.network.parameters() if p.ndim == 5} >= {6}
    with pytest.raises(BundleError, match="does not fit UNet"):
        load_bundle(root, "model.pt", None, ConfigChanges.of((), {"network_def#channels": [6, 6]}))
    with pytest.raises(BundleError, match="give one of them"):
        load_bundle(root, "model.pt", "cpu", ConfigChanges.of((), {"device": "$torch.device('cpu')"}))
    with pytest.raises(FileNotFoundError, match="--config nowhere.yaml"):
        load_bundle(root, "model.pt", None, ConfigChanges.of(["nowhere.yaml"]))


def test_labelled_cases_and_network_share_the_changes(phantom_set):
    keys = {"split": "source_val", "preprocessing#transforms#3#pixdim": [2, 2, 2], "inferer#overlap": 0.25}
    source = load_source(BUNDLE, phantom_set, "model.pt", keys, "cpu")
    assert len(source.domain) == 2 and source.bundle.inferer.overlap == 0.25
    assert max(source.domain.case(0)["image"].shape[1:]) < 20
    assert source.bundle.parser["preprocessing#transforms#3#pixdim"] == [2, 2, 2]
    changes = ConfigChanges.of((), {"preprocessing#transforms#3#pixdim": [2, 2, 2]})
    one = LabelledDomain(BUNDLE, phantom_set, Domain("x", {"split": "target"}), changes=changes)
    assert max(one.case(0)["image"].shape[1:]) < 20


class TestResuming:
    def settings(self, **named):
        return ComparisonPlan(root=BUNDLE, dataset_dir=BUNDLE, only=("Tent",), **named).settings()

    def test_a_comparison_notices_other_changes(self):
        plain = self.settings()
        other = self.settings(changes=ConfigChanges.of((), {"inferer#overlap": 0.25}))
        assert {name for name in plain if plain[name] != other[name]} == {"--set"}
        with pytest.raises(BundleError, match="the domain 'target' of compare.yaml sets it"):
            self.settings(changes=ConfigChanges.of((), {"split": "x"}), domains=("target",))

    def test_a_file_is_noticed_by_its_content(self, tmp_path):
        root = small_bundle(tmp_path / "b")
        file = tmp_path / "more.yaml"
        file.write_text("inferer#overlap: 0.1\n", encoding="utf-8")
        changes = ConfigChanges.of([file])
        before = changes.settings(root)
        file.write_text("inferer#overlap: 0.2\n", encoding="utf-8")
        after = changes.settings(root)
        assert before["--config"] != after["--config"] and "more" not in str(after) and before["--set"] == ""

    def test_an_unfinished_run_is_not_resumed_with_others(self, tmp_path, monkeypatch):
        root = small_bundle(tmp_path / "b")
        rng = np.random.default_rng(0)
        (tmp_path / "in").mkdir()
        for name in "ab":
            save(tmp_path / "in" / f"{name}.nii.gz", volume(rng))
        from tests.pipeline.test_reliability import stopping_at

        words = ["run", str(root), str(tmp_path / "in"), "--out", str(tmp_path / "out"), "--method", "source"]
        with stopping_at(monkeypatch, 1):
            assert CliRunner().invoke(app, [*words, "--set", "inferer#overlap=0.25"]).exit_code == 130
        refused = CliRunner().invoke(app, words)
        assert refused.exit_code == 2 and "unfinished run with another --set" in refused.output
        assert CliRunner().invoke(app, [*words, "--set", "inferer#overlap=0.25"]).exit_code == 0

    def test_a_command_on_record_leaves_paths_out(self):
        changes = ConfigChanges.of(["/home/someone/x.yaml"], {"a": "/home/someone", "b": [1, 2]})
        assert changes.words() == ["--config", "x.yaml", "--set", "a=PATH", "--set", "b=[1, 2]"]


def test_a_gain_predictor_of_another_config_is_refused(tmp_path):
    root = small_bundle(tmp_path / "b")
    weights = root / "models" / "model.pt"
    changes = ConfigChanges.of((), {"inferer#overlap": 0.25})
    digest = inference_digest(root, changes)
    assert digest and inference_digest(root, ConfigChanges()) == ""
    predictor = stump()
    predictor.about[CHANGED_CONFIG] = digest
    predictor.save(root / "models" / "gain_predictor.npz")
    method = Contender("Careful", Careful()).method.for_checkpoint(weights)
    check_predictor_config(weights, method, root, changes)
    with pytest.raises(BundleError, match="calibrate again"):
        check_predictor_config(weights, method, root, ConfigChanges())
    check_predictor_config(weights, Careful(predictor="universal"), root, ConfigChanges())


def test_the_overlay_and_the_run_take_the_same_words(tmp_path):
    root = small_bundle(tmp_path / "b")
    weights = load_bundle(root, None, None, ConfigChanges.of((), {"network_def#norm": "instance"})).network.state_dict()
    torch.save(weights, root / "models" / "other.pt")
    more = ["--set", "norm=instance"]
    found = CliRunner().invoke(app, ["overlay", str(root), "--out", str(tmp_path / "o.yaml"), *more])
    assert found.exit_code == 0 and "AttachedAffine" in found.output, found.output
    image = save(tmp_path / "a.nii.gz", volume(np.random.default_rng(0)))
    words = ["run", root, image, "--out", tmp_path / "out", "--method", "tent", "--checkpoint", "other.pt", *more]
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == 0, done.output
    (record,) = json.loads((tmp_path / "out" / "records.json").read_text(encoding="utf-8"))["cases"]
    assert record["selected"] == "AttachedAffine()"
