"""`monai-tta show --bundle` computes the unadapted answer again: the picture is the run's own preview, or there is none."""

import numpy as np
import pytest
import torch

from monai_tta.pipeline import bundle as bundles
from monai_tta.reporting.case_pictures import ADAPTED, UNADAPTED
from tests.attack.arena import save
from tests.cli.test_preview import colours
from tests.cli.test_replay import change_records, contents, invoke, made, place, run
from tests.pipeline.test_check_input import AFFINE, home_images, scan

__all__ = ["made", "place"]  # the fixtures: a small bundle, three scans of which one is damaged, and a run's masks


def show(root, *more, out="masks", code=0, image="scans"):
    words = ["--image", root / image, "--out", root / "a.png", "--bundle", root / "bundle", "--device", "cpu"]
    result = invoke("show", root / out, "a", *words, *more)
    assert result.exit_code == code, (result.output, result.exception)
    return " ".join(result.output.split())


def preview_of(root, out):
    return (root / out / "a_seg_preview.png").read_bytes()


@pytest.mark.parametrize("image", ["scans", "scans/a.nii.gz"])
def test_the_picture_is_the_preview_of_the_run(place, image):
    assert run(place, "previews", "--preview").exit_code == 3
    before = contents(place)
    show(place, image=image)
    picture = place / "a.png"
    assert picture.read_bytes() == preview_of(place, "previews") and {UNADAPTED, ADAPTED} <= colours(picture)
    assert contents(place) == before | {picture: contents(place)[picture]}, "nothing else is written or changed"


def test_without_the_bundle_the_outline_is_missing_and_both_ways_to_it_are_said(place):
    assert run(place, "previews", "--preview").exit_code == 3
    words = ["a", "--image", place / "scans" / "a.nii.gz", "--out", place / "a.png"]
    for out, has_preview in (("masks", False), ("previews", True)):
        said = " ".join(invoke("show", place / out, *words).output.split())
        assert "no unadapted outline" in said and "--bundle computes it again" in said
        assert ("a_seg_preview.png" in said) == has_preview
    assert ADAPTED in colours(place / "a.png") and UNADAPTED not in colours(place / "a.png")


def test_the_unadapted_answer_of_a_continual_run_is_to_be_had(place):
    assert run(place, "stream", "--reset", "never", "--preview").exit_code == 3
    show(place, out="stream")
    assert (place / "a.png").read_bytes() == preview_of(place, "stream")


def test_a_corrected_input_is_corrected_again(place):
    home_images(place / "home")
    file = place / "bundle" / "models" / "reference.json"
    assert invoke("reference", place / "bundle", place / "home", "--out", file).exit_code == 0
    (place / "in").mkdir()
    save(place / "in" / "a.nii.gz", scan(9).min() + scan(9).max() - scan(9), AFFINE)
    words = ["--method", "grata", "--choose", "optimizer.lr=30", "--fix", "--preview"]
    done = invoke("run", place / "bundle", place / "in", "--out", place / "fixed", *words)
    assert done.exit_code == 0 and "corrected: grey inverted" in (place / "fixed" / "records.json").read_text(encoding="utf-8")
    show(place, out="fixed", image="in")
    assert (place / "a.png").read_bytes() == preview_of(place, "fixed")
    for other in range(5):  # of other images of the source, which expect something else
        save(place / "home" / f"h{other}.nii.gz", scan(other)[:, ::-1] * 0.5, AFFINE)
    assert invoke("reference", place / "bundle", place / "home", "--out", file).exit_code == 0
    assert "input_reference_hash" in show(place, out="fixed", image="in", code=2)


def test_a_case_that_did_not_adapt_needs_no_network(place, monkeypatch):
    done = invoke("run", place / "bundle", place / "scans", "--out", place / "plain", "--method", "source", "--preview")
    assert done.exit_code == 3

    def load(*_, **__):
        raise AssertionError("loaded")

    monkeypatch.setattr(bundles, "load_bundle", load)
    show(place, out="plain")
    assert (place / "a.png").read_bytes() == preview_of(place, "plain")


def other_weights(place):
    file = place / "bundle" / "models" / "model.pt"
    torch.save({name: value * 2 for name, value in torch.load(file, weights_only=True).items()}, file)


def other_image(place):
    save(place / "scans" / "a.nii.gz", np.zeros((12, 11, 10), np.float32))


def other_config(place):
    file = place / "bundle" / "configs" / "inference.yaml"
    file.write_text(file.read_text(encoding="utf-8") + "# a remark\n", encoding="utf-8")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (other_weights, "weights_hash differ from the record"),
        (other_config, "bundle_hash differ from the record"),
        (other_image, "image_hash differ from the record"),
        (lambda place: (place / "scans" / "a.nii.gz").write_bytes(b"damaged"), "the unadapted answer cannot be had: "),
        (lambda place: (place / "scans" / "a.nii.gz").unlink(), "of the 2 images none is called a"),
    ],
)
def test_the_answer_of_another_network_or_image_is_refused(place, change, said):
    change(place)
    assert said in show(place, code=2)
    assert not (place / "a.png").exists()


def test_the_words_of_the_command_that_need_each_other(place):
    image, out = ("--image", place / "scans" / "a.nii.gz"), ("--out", place / "a.png")
    for words, said in [
        (("--bundle", place / "bundle"), "give --image and --out, too"),
        ((*image, *out, "--file", place / "x.json"), "give --bundle, too"),
        ((*image, *out, "--device", "cpu"), "give --bundle, too"),
    ]:
        result = invoke("show", place / "masks", "a", *words)
        assert result.exit_code == 2 and said in result.output.replace("\n", " ")
    change_records(place, lambda document: document["run"].update(command=document["run"]["command"] + " --reference r.json"))
    assert "say where it is by --file" in show(place, code=2)


def test_a_picture_does_not_replace_an_image_that_is_found_in_a_folder(place):
    (place / "scans" / "a.nii.gz").rename(place / "scans" / "a.png")
    change_records(place, lambda document: document["cases"][0].update(status="unadapted"))
    before = (place / "scans" / "a.png").read_bytes()
    words = ["--image", place / "scans", "--out", place / "scans" / "a.png", "--bundle", place / "bundle"]
    result = invoke("show", place / "masks", "a", *words)
    assert result.exit_code == 2 and "is the image" in result.output.replace("\n", " ")
    assert (place / "scans" / "a.png").read_bytes() == before
