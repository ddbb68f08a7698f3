"""Auto3DSeg adapts as docs/programs.md says: segresnet by a hyperparameter, swinunetr and dints by a changed import."""

import re
import warnings
from pathlib import Path

import pytest
import torch
import yaml
from monai.apps.auto3dseg import BundleAlgo
from monai.bundle import ConfigParser

from monai_tta import AdaptiveInferer
from monai_tta.core.record import Case
from tests.small import image, network
from tests.zoo import KINDS

PAGE = (Path(__file__).parent.parent.parent / "docs" / "programs.md").read_text(encoding="utf-8")
SCRIPT = Path(__file__).with_name("auto3dseg_infer.py").read_text(encoding="utf-8")
IMPORT = "from monai.inferers import sliding_window_inference\n"


def test_the_entry_for_auto3dseg_is_an_inferer_that_adapts():
    (entry,) = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.S | re.M)
    config = yaml.safe_load(entry)["sliding_inferrer"]
    inferer = ConfigParser({**config, "roi_size": [8, 8, 8]}).get_parsed_content()  # as segresnet's segmenter reads it
    assert isinstance(inferer, AdaptiveInferer)
    inferer(inputs=image(size=12), network=network())
    assert inferer.cases[-1].adapted


def loaded_by_auto3dseg(folder, script, **overrides):
    for part in ("scripts", "configs"):
        (folder / part).mkdir(parents=True)
    (folder / "scripts" / "infer.py").write_text(script, encoding="utf-8")
    algo = BundleAlgo(str(folder))
    algo.output_path = str(folder)
    return algo.get_inferer(**overrides)


# bfloat16 makes transformers on CPUs slow, so one of them is enough with amp.
@pytest.mark.parametrize(
    ("kind", "overlap", "amp"), [("swinunetr", "overlap_ratio_final", False), ("dints", "overlap_ratio", True)]
)
def test_auto3dsegs_scripts_adapt_with_the_pages_lines_in_place_of_one(kind, overlap, amp, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the page's lines name a file of records
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = ConfigParser(KINDS[kind].network).get_parsed_content().eval()
        scan = torch.randn(1, 1, *KINDS[kind].inferer["roi_size"])
    script = SCRIPT.replace("overlap_ratio_final", overlap)
    (ours,) = re.findall(r"^```python\n# in scripts/infer.py\n(.*?)^```", PAGE, re.S | re.M)
    windows = {"patch_size_valid": KINDS[kind].inferer["roi_size"], "num_sw_batch_size": 1, overlap: 0.5}
    given = {"model": net, "images": [scan], "device": "cpu", "amp": amp, **windows}
    unadapted = loaded_by_auto3dseg(tmp_path / "before", script, **given).infer(0)
    changed = loaded_by_auto3dseg(tmp_path / "after", script.replace(IMPORT, ours), **given)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*adapt")
        one, (of_many,) = changed.infer(0), changed.batch_infer()
    torch.testing.assert_close(one, of_many)
    assert one.shape == unadapted.shape and not torch.allclose(one, unadapted)
    cases = [Case.from_json(line) for line in (tmp_path / "adapting.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [(case.number, case.adapted, case.head) for case in cases] == [(0, True, "softmax"), (1, True, "softmax")]
