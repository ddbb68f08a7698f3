"""Programs that people use adapt as docs/programs.md says: its code is run here, and its table names tests that are there."""

import re
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
import yaml
from monai.bundle import ConfigParser
from monai.inferers import SlidingWindowInfererAdapt
from monai.networks.nets import UNet

from monai_tta import AdaptiveInferer, GraTa
from tests.small import image, network

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "programs.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE, re.S | re.M)


def program_of(block):
    """The package that a block needs; empty for one that needs none."""
    named = re.match(r"# program: (\w+)\n", block)
    return named[1] if named else ""


@pytest.mark.parametrize("block", BLOCKS[1:], ids=[program_of(block) or "none" for block in BLOCKS[1:]])
def test_code_of_the_page_adapts(block, tmp_path, monkeypatch):
    if (program := program_of(block)) and find_spec(program) is None:
        pytest.skip(f"{program} is not installed; `make programs` has it")
    monkeypatch.chdir(tmp_path)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        names = {"__name__": "page", "torch": torch, "network": UNet(3, 1, 3, (4, 8), (2,), num_res_units=1, norm="batch").eval()}
        names["image"] = torch.randn(1, 1, 24, 24, 24)
        exec(compile(block, "docs/programs.md", "exec"), names)
    (case,) = names["inferer"].cases
    assert case.adapted and case.weight_distance + case.n_windows > 0


def test_monais_other_inferers_adapt_inside_ours():
    x, net = image(size=12), network()
    inner = SlidingWindowInfererAdapt(roi_size=(8, 8, 8), sw_batch_size=2, overlap=0.5)
    wrapped, own = (
        AdaptiveInferer(inferer=inner, method=GraTa(), head="softmax"),
        AdaptiveInferer(8, 2, 0.5, method=GraTa(), head="softmax"),
    )
    torch.testing.assert_close(wrapped(x, net), own(x, net))
    assert wrapped.cases[-1].adapted


def test_the_entry_for_auto3dseg_is_an_inferer_that_adapts():
    (entry,) = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.S | re.M)
    config = yaml.safe_load(entry)["sliding_inferrer"]
    inferer = ConfigParser({**config, "roi_size": [8, 8, 8]}).get_parsed_content()  # as segresnet's segmenter reads it
    assert isinstance(inferer, AdaptiveInferer)
    inferer(inputs=image(size=12), network=network())
    assert inferer.cases[-1].adapted


def test_the_table_names_tests_that_are_there():
    named = re.findall(r"`(tests/[\w/]+\.py)`", PAGE)
    assert len(named) >= 6 and all((ROOT / name).is_file() for name in named)
