"""`monai-tta report --pictures --bundle` computes unadapted answers again and draws them beside the adapted ones."""

import base64
import json
import re

import numpy as np
import pytest
import torch

from monai_tta.pipeline import bundle as bundles
from monai_tta.pipeline.mask_pictures import NOT_KEPT, mask_pictures
from monai_tta.pipeline.recorded_answer import RecordedAnswer
from tests.attack.arena import save
from tests.cli.test_replay import change_records, contents, invoke, made, place, run

__all__ = ["made", "place"]  # the fixtures: a small bundle, three scans of which one is damaged, and a run's masks
UNADAPTED = "image, unadapted mask, adapted mask"


def report(root, *more, out="masks", code=0):
    words = ["--pictures", root / "scans", "--bundle", root / "bundle", "--device", "cpu"]
    result = invoke("report", root / out, *words, *more)
    assert result.exit_code == code, (result.output, result.exception)
    return " ".join(result.output.split())


def page(root, out="masks"):
    return (root / out / "report.html").read_text(encoding="utf-8")


def drawn(text):
    """The pictures on a page, by what they say that they are."""
    found = re.findall(r'<img alt="([^"]*)" src="data:image/png;base64,([^"]*)"', text)
    return {alt: base64.b64decode(content) for alt, content in found}


def entries(root, out):
    return {case["name"]: case for case in json.loads((root / out / "records.json").read_text(encoding="utf-8"))["cases"]}


def test_both_answers_stand_beside_each_other_and_the_bundle_is_loaded_once(place, monkeypatch):
    done = invoke("run", place / "bundle", place / "scans", "--out", place / "plain", "--method", "source")
    assert done.exit_code == 3
    before, loads, load = contents(place), [], bundles.load_bundle
    monkeypatch.setattr(bundles, "load_bundle", lambda *words, **more: loads.append(1) or load(*words, **more))
    report(place)
    made_page = place / "masks" / "report.html"
    assert contents(place) == before | {made_page: contents(place)[made_page]}, "nothing else is written or changed"
    found = drawn(page(place))
    assert len(found) == 6 and len(loads) == 1
    assert "filled: only this one of the two answers" in page(place) and NOT_KEPT not in page(place)
    ours, plain = entries(place, "masks"), entries(place, "plain")
    for name, file in (("a", "a.nii.gz"), ("p1_b", "p1/b.nii.gz")):
        unadapted = RecordedAnswer([place / "plain" / mask for mask in plain[name]["masks"]], plain[name]["labels"])
        masks = [place / "masks" / mask for mask in ours[name]["masks"]]
        words = place / "scans" / file, masks, ours[name]["labels"]
        expected = mask_pictures(*words, title="adapted mask", unadapted=unadapted).slices
        assert expected != mask_pictures(*words, title="adapted mask").slices
        for caption, png in expected:
            assert found[f"{name}: {caption}: {UNADAPTED}"] == png


def test_without_the_bundle_the_page_says_how_to_get_the_outlines(place):
    assert invoke("report", place / "masks" / "records.json", "--pictures", place / "scans").exit_code == 0
    assert page(place).count("--bundle BUNDLE") == 2 and not [alt for alt in drawn(page(place)) if "unadapted mask" in alt]


def test_numbers_take_the_place_of_names_here_too(place):
    report(place, "--anonymous")
    assert f"image 0: axial: {UNADAPTED}" in drawn(page(place)) and "p1_b" not in page(place)


def test_maps_stand_beside_both_answers(place):
    assert run(place, "maps", "--uncertainty", "--mirrors", "0").exit_code == 3
    report(place, out="maps")
    assert f"a: axial: {UNADAPTED}, uncertainty" in drawn(page(place, "maps")) and 'class="plot row"' in page(place, "maps")


def test_a_run_that_adapted_nothing_needs_no_network(place, monkeypatch):
    done = invoke("run", place / "bundle", place / "scans", "--out", place / "plain", "--method", "source")
    assert done.exit_code == 3

    def load(*_, **__):
        raise AssertionError("loaded")

    monkeypatch.setattr(bundles, "load_bundle", load)
    report(place, out="plain")
    assert "a: axial: image, unadapted mask" in drawn(page(place, "plain"))


def other_weights(place):
    file = place / "bundle" / "models" / "model.pt"
    torch.save({name: value * 2 for name, value in torch.load(file, weights_only=True).items()}, file)


def other_config(place):
    file = place / "bundle" / "configs" / "inference.yaml"
    file.write_text(file.read_text(encoding="utf-8") + "# a remark\n", encoding="utf-8")


@pytest.mark.parametrize(("change", "said"), [(other_weights, "weights_hash"), (other_config, "bundle_hash")])
def test_another_network_is_refused_before_it_answers(place, change, said, monkeypatch):
    change(place)

    def answer(*_):
        raise AssertionError("answered")

    monkeypatch.setattr("monai_tta.cli.run_cases.take_turns", answer)
    assert f"{said} differ from the record" in report(place, code=2)
    assert not (place / "masks" / "report.html").exists()


def test_another_image_is_refused_and_the_other_case_goes_on(place):
    save(place / "scans" / "a.nii.gz", np.zeros((12, 11, 10), np.float32), np.diag([2.0, 2, 2, 1]))
    said = report(place, code=3)
    assert "a: the unadapted answer would not be that of the run: image_hash differ from the record" in said
    assert "a: no picture: ValueError: the image of this name is not that of the run" in said
    found = drawn(page(place))
    assert f"p1_b: axial: {UNADAPTED}" in found and not [alt for alt in found if alt.startswith("a:")]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda file: file.write_bytes(b"damaged"), "a: the unadapted answer cannot be had: "),
        (lambda file: file.unlink(), "no image of this name was given"),
    ],
)
def test_an_image_that_is_lost_is_named_and_the_other_case_goes_on(place, change, said):
    change(place / "scans" / "a.nii.gz")
    assert said in report(place, code=3)
    found = drawn(page(place))
    assert f"p1_b: axial: {UNADAPTED}" in found and not [alt for alt in found if alt.startswith("a:")]


def test_the_words_of_the_command_that_need_each_other(place):
    images = ("--pictures", place / "scans")
    for words, said in [
        (("--bundle", place / "bundle"), "give --pictures, too"),
        ((*images, "--file", place / "x.json"), "give --bundle, too"),
        ((*images, "--set", "a=b"), "give --bundle, too"),
        (("--out", place / "scans" / "a.nii.gz"), "does not end in .html"),
        (("--out", place / "scans" / "a.nii.gz" / "page.html"), "is a file"),
    ]:
        result = invoke("report", place / "masks", *words)
        assert result.exit_code == 2 and said in result.output.replace("\n", " "), result.output
    change_records(place, lambda document: document["run"].update(command=document["run"]["command"] + " --reference r.json"))
    assert "say where it is by --file" in report(place, code=2)
