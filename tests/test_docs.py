"""What the documentation shows is run, and what it lists is complete."""

import re
from pathlib import Path

import pytest
import torch
from monai.networks.nets import UNet

from monai_tta import methods

ROOT = Path(__file__).parent.parent
BLOCK = re.compile(r"^```python\n(.*?)^```", re.S | re.M)


@pytest.mark.parametrize("page", ["README.md", "docs/add-a-method.md"])
def test_code_on_a_page_runs(page):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = UNet(3, 1, 3, (4, 8), (2,), num_res_units=1, norm="batch").eval()
    image = torch.randn(1, 1, 24, 24, 24, generator=torch.Generator().manual_seed(0))
    names = {"__name__": "page", "network": network, "image": image}
    blocks = BLOCK.findall((ROOT / page).read_text())
    assert blocks
    for block in blocks:
        exec(compile(block, page, "exec"), names)
    assert names["inferer"].cases[-1].reason is None


def test_the_page_of_methods_is_the_one_generated():
    from docs.methods_page import page

    assert (ROOT / "docs" / "methods.md").read_text() == page(), "run python -m docs.methods_page"
    assert all(f"`{name}`" in page() for name in methods.__all__)


def test_links_between_pages_lead_somewhere():
    pages = [ROOT / "README.md", *ROOT.glob("docs/*.md"), *ROOT.glob("bundles/*/docs/*.md")]
    for page in pages:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
