"""`monai-tta run --preview`: a picture beside each mask, no other mask than without, none lost and none of an earlier run."""

import json
import re
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from monai_tta import AdaptiveInferer
from monai_tta.pipeline import image_segmenter
from monai_tta.reporting.case_pictures import ADAPTED, UNADAPTED
from tests.cli.test_uncertainty import HIPPOCAMPUS, invoke, phantom, records_of, run, scans, voxels

__all__ = ["scans"]  # the fixture: one anatomy twice, with other axes
DOCS = Path(__file__).parent.parent.parent / "docs"
PREVIEWS = ["a_seg_preview.png", "b_seg_preview.png"]
STATISTICS = ("--method", "statistics", "--choose", "blend=0.3")


def colours(file):
    return {tuple(colour) for colour in np.asarray(Image.open(file).convert("RGB")).reshape(-1, 3)}


def test_previews_lie_beside_the_masks_which_are_those_without(scans, tmp_path):
    run(HIPPOCAMPUS, scans, tmp_path / "plain", *STATISTICS)
    run(HIPPOCAMPUS, scans, tmp_path / "out", *STATISTICS, "--preview")
    assert not list((tmp_path / "plain").rglob("*preview*"))
    for name in "ab":
        assert (voxels(tmp_path / "plain" / f"{name}_seg.nii.gz") == voxels(tmp_path / "out" / f"{name}_seg.nii.gz")).all()
        assert {UNADAPTED, ADAPTED} <= colours(tmp_path / "out" / f"{name}_seg_preview.png")
    cases = records_of(tmp_path / "out")
    assert [case["preview"] for case in cases] == PREVIEWS and all(case["status"] == "adapted" for case in cases)
    assert [case["masks"] for case in cases] == [["a_seg.nii.gz"], ["b_seg.nii.gz"]]
    document = json.loads((tmp_path / "out" / "records.json").read_text(encoding="utf-8"))
    assert document["run"]["command"].split()[-1] == "--preview" and document["run"]["settings"]["preview"] is True
    kept = [
        {key: value for key, value in case.items() if "seconds" not in key and key not in ("peak_memory", "preview")}
        for case in cases
    ]
    plain = records_of(tmp_path / "plain")
    assert kept == [{key: case[key] for key in entry} for entry, case in zip(kept, plain, strict=True)]


def test_a_killed_run_has_all_previews_when_it_is_resumed(scans, tmp_path, monkeypatch):
    real, answered = AdaptiveInferer.__call__, []

    def stop(self, *args, **kwargs):
        answered.append(1)
        if len(answered) > 1:
            raise KeyboardInterrupt
        return real(self, *args, **kwargs)

    with monkeypatch.context() as patched:
        patched.setattr(AdaptiveInferer, "__call__", stop)
        run(HIPPOCAMPUS, scans, tmp_path / "out", "--preview", code=130)
    assert (tmp_path / "out" / PREVIEWS[0]).is_file() and not (tmp_path / "out" / PREVIEWS[1]).exists()
    for words in ([], ["--preview", "--anonymous"]):
        assert "another preview" in run(HIPPOCAMPUS, scans, tmp_path / "out", *words, code=2).output
    (tmp_path / "out" / PREVIEWS[0]).unlink()
    run(HIPPOCAMPUS, scans, tmp_path / "out", "--preview")
    assert [(tmp_path / "out" / name).is_file() for name in PREVIEWS] == [True, True]
    assert [case["preview"] for case in records_of(tmp_path / "out")] == PREVIEWS


def test_a_preview_that_cannot_be_drawn_is_said_and_the_mask_is_there(scans, tmp_path, monkeypatch):
    def fail(image, *_):
        raise ValueError(f"{image} has no middle")

    monkeypatch.setattr(image_segmenter, "write_preview", fail)
    result = run(HIPPOCAMPUS, scans / "a.nii.gz", tmp_path / "out", "--preview", code=3)
    (case,) = records_of(tmp_path / "out")
    assert case["preview"] is None and case["status"] == "unadapted" and (tmp_path / "out" / "a_seg.nii.gz").is_file()
    assert case["notes"] == ["there is no preview: the image has no middle"] and "1 mask has no preview" in result.output


def test_a_preview_of_an_earlier_run_does_not_pass_for_a_new_masks(scans, tmp_path):
    run(HIPPOCAMPUS, scans / "a.nii.gz", tmp_path / "out", "--preview", "--anonymous")
    (case,) = records_of(tmp_path / "out")
    assert "preview" not in case and (tmp_path / "out" / PREVIEWS[0]).is_file()
    result = run(HIPPOCAMPUS, scans / "a.nii.gz", tmp_path / "out")
    (case,) = records_of(tmp_path / "out")
    assert case["preview"] is None and "preview" in case["notes"][0] and "earlier run's" in result.output


@pytest.mark.slow
def test_workers_draw_the_same(scans, tmp_path):
    run(HIPPOCAMPUS, scans, tmp_path / "one", *STATISTICS, "--preview")
    run(HIPPOCAMPUS, scans, tmp_path / "two", *STATISTICS, "--preview", "--workers", "2")
    for name in PREVIEWS:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_the_commands_of_the_docs_run(tmp_path, monkeypatch):
    (tmp_path / "SCANS").mkdir()
    nib.save(nib.Nifti1Image(phantom(), np.eye(4)), tmp_path / "SCANS" / "a.nii.gz")
    monkeypatch.chdir(tmp_path)
    (commands,) = re.findall(r"^```bash\n(.*?)^```", (DOCS / "preview.md").read_text(encoding="utf-8"), re.S | re.M)
    for command in commands.splitlines():
        name, *words = command.split()
        words += ["--method", "source", "--no-check", "--device", "cpu"] if words[0] == "run" else []  # it is soon done
        result = invoke(*words)
        assert name == "monai-tta" and result.exit_code == 0, result.output
    assert (tmp_path / "MASKS" / PREVIEWS[0]).is_file() and Image.open(tmp_path / "a.png").width > 600


def test_the_page_shows_maps_and_previews_and_show_draws(tmp_path):
    (tmp_path / "in").mkdir()
    nib.save(nib.Nifti1Image(phantom(), np.eye(4)), tmp_path / "in" / "a.nii.gz")
    out = tmp_path / "out"
    run(HIPPOCAMPUS, tmp_path / "in", out, "--preview", "--uncertainty")
    assert invoke("report", out, "--pictures", tmp_path / "in").exit_code == 0
    page = (out / "report.html").read_text(encoding="utf-8")
    assert (
        page.count("data:image/png;base64,") == 4
        and "The run's preview" in page
        and "a: anterior hippocampus" in page
        and "nats, white" in page
        and "holds pixels" in page
    )
    assert "90 % of the source" in page, "the bundle has reference ranges"
    assert invoke("report", out).exit_code == 0
    assert "data:image/png;base64," not in (out / "report.html").read_text(encoding="utf-8"), (
        "pixels only where they are asked for"
    )
    shown = invoke("show", out, "a_seg.nii.gz", "--image", tmp_path / "in" / "a.nii.gz", "--out", tmp_path / "a.png")
    assert shown.exit_code == 0, shown.output
    assert "unadapted answer: the method is Source" in shown.output.replace("\n", "") and UNADAPTED in colours(tmp_path / "a.png")
    refused = invoke("show", out, "a", "--image", tmp_path / "in" / "a.nii.gz", "--out", out / "a_seg.nii.gz")
    assert refused.exit_code == 2 and ".png" in refused.output
