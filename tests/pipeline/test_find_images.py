"""What a person gives to `monai-tta run`: files and folders of every kind, and images of one name."""

import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from monai.inferers import SlidingWindowInferer
from monai.transforms import AsDiscreted, Compose, EnsureChannelFirstd, Lambdad, LoadImaged, SaveImaged
from PIL import Image
from typer.testing import CliRunner

from monai_tta import Source
from monai_tta.cli.app import app
from monai_tta.cli.demo import BUNDLE
from monai_tta.pipeline.bundle import SourceBundle, load_bundle
from monai_tta.pipeline.find_images import find_images, lines_on_skipped, search_images
from monai_tta.pipeline.input_checks import check_input_file
from monai_tta.pipeline.output_head import head_of
from monai_tta.pipeline.segment import segment
from monai_tta.transforms.phantoms import fundus_phantom
from tests.bundles.test_ct_bundle import STRAIGHT, sitk_image, write_series
from tests.small import network

BUNDLES = BUNDLE.parent


def tta(*words):
    result = CliRunner().invoke(app, list(map(str, words)))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def test_files_folders_and_series_are_found(tmp_path):
    write_series(sitk_image(STRAIGHT), tmp_path / "series")
    for name in ("a.nii.gz", "b.NII", "c.png", "notes.txt", ".hidden.nii"):
        (tmp_path / name).touch()
    (tmp_path / "empty").mkdir()
    assert [p.name for p in find_images([tmp_path])] == ["a.nii.gz", "b.NII", "c.png", "series"]
    (tmp_path / "series" / "000.dcm").rename(tmp_path / "series" / "IM1")  # many archives give DICOM no ending
    assert find_images([tmp_path / "series", tmp_path / "x.nii"]) == [tmp_path / "series", tmp_path / "x.nii"]
    with pytest.raises(ValueError, match="empty holds no image"):
        find_images([tmp_path / "empty"])
    (tmp_path / "empty" / "x.mgz").touch()
    with pytest.raises(ValueError, match="skipped x.mgz: of a kind that is not looked for"):
        find_images([tmp_path / "empty"])


def test_a_dicom_series_and_photographs_from_the_command_line(tmp_path):
    write_series(sitk_image(STRAIGHT), tmp_path / "in" / "patient")
    done = tta("run", BUNDLES / "abdomen_ct", tmp_path / "in", "--out", tmp_path / "ct", "--method", "tent")
    assert done.exit_code == 0 and (tmp_path / "ct" / "patient_seg.nii.gz").is_file()
    photograph = (fundus_phantom((300, 280)).image * 255).byte().permute(2, 1, 0).numpy()
    Image.fromarray(photograph).save(tmp_path / "in" / "eye.jpg")
    eye = tmp_path / "in" / "eye.jpg"
    done = tta("run", BUNDLES / "vessel_fundus", eye, "--out", tmp_path / "fundus", "--method", "statistics")
    assert done.exit_code == 0, done.output
    (mask,) = (tmp_path / "fundus").glob("*.png")
    assert Image.open(mask).size == Image.open(eye).size


def dicom(path, modality=b"CT"):
    """A file that begins as DICOM does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tag = b"\x08\x00\x60\x00CS" + len(modality).to_bytes(2, "little") + modality
    path.write_bytes(bytes(128) + b"DICM" + tag + bytes(50))


def touched(root, *files):
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).touch()


def found_in(root, **named):
    """Paths of images, and names of what was skipped with the reason."""
    found = search_images([root], **named)
    return [p.relative_to(root).as_posix() for p in found.images], {p.name: reason for p, reason in found.skipped}


def test_images_are_found_at_any_depth(tmp_path):
    touched(tmp_path, "top.nii", "a/b/c/d/deep.nii.gz", "a/eye.PNG", "a/notes.txt")
    for k in range(3):
        dicom(tmp_path / "p" / "study" / "1.2.3" / f"{k}")
    images, skipped = found_in(tmp_path)
    assert images == ["a/b/c/d/deep.nii.gz", "a/eye.PNG", "p/study/1.2.3", "top.nii"] and skipped == {}


def test_a_stray_dicom_file_hides_nothing(tmp_path):
    touched(tmp_path, "scan.nii", "sub/other.nii")
    dicom(tmp_path / "IM0001")
    dicom(tmp_path / "series" / "1.dcm")
    dicom(tmp_path / "DICOMDIR")
    images, skipped = found_in(tmp_path)
    assert images == ["scan.nii", "series", "sub/other.nii"]
    assert list(skipped) == ["IM0001"] and "one DICOM file beside other images" in skipped["IM0001"]


def test_a_series_beside_other_images_is_found_and_so_are_they(tmp_path):
    touched(tmp_path, "in/scan.nii", "in/preview.jpg")
    for k in range(2):
        dicom(tmp_path / "in" / f"{k}.dcm")
    dicom(tmp_path / "in" / "contours.dcm", b"RTSTRUCT")
    images, skipped = found_in(tmp_path)
    assert images == ["in", "in/scan.nii"] and set(skipped) == {"preview.jpg", "contours.dcm"}
    assert "RTSTRUCT" in skipped["contours.dcm"]


def test_dicom_without_its_mark_is_found(tmp_path):
    tag = b"\x08\x00\x05\x00\x0a\x00\x00\x00ISO_IR 100"
    for k in range(2):
        touched(tmp_path, f"old/{k}")
        (tmp_path / "old" / f"{k}").write_bytes(tag + bytes(300))
    touched(tmp_path, "none/x")
    (tmp_path / "none" / "x").write_bytes(b"\x08\x00" + bytes(300))
    assert found_in(tmp_path)[0] == ["old"]


def test_what_is_not_looked_at_is_said(tmp_path):
    touched(tmp_path, "a.nii", ".b.nii", ".git/x.nii", "c.mgz", "d.dcm", "old/records.json", "old/a_seg.nii", "out/a_seg.nii")
    (tmp_path / "up").symlink_to(".")
    (tmp_path / "gone").symlink_to("/nowhere/x")
    (tmp_path / "gone.nii").symlink_to("/nowhere/x.nii")
    (tmp_path / "real").mkdir()
    touched(tmp_path, "real/e.nii")
    (tmp_path / "too").symlink_to("real")
    (tmp_path / "real" / "back").symlink_to(".")
    images, skipped = found_in(tmp_path, out=tmp_path / "out")
    assert images == ["a.nii", "gone.nii", "real/e.nii"]
    assert set(skipped) == {".b.nii", ".git", "c.mgz", "d.dcm", "old", "out", "up", "back", "gone", "too"}
    assert skipped["up"] == skipped["back"] == "a link back to a folder above it"
    assert skipped["too"] == "a link to a folder that is searched anyway"
    assert skipped["d.dcm"] == "named as DICOM, and holds none" and skipped["old"] == "holds the masks of a run"
    found = search_images([tmp_path, tmp_path / "a.nii", tmp_path / "real" / ".." / "a.nii"], tmp_path / "out")
    assert len(found.images) == 3
    assert "skipped 2 (given twice): a.nii, a.nii" in list(lines_on_skipped(found))


def test_a_folder_that_cannot_be_read_counts_as_an_image(tmp_path, monkeypatch):
    touched(tmp_path, "a.nii", "closed/b.nii")
    listed = Path.iterdir

    def iterdir(path):
        if path.name == "closed":
            raise PermissionError(13, "Permission denied", str(path))
        return listed(path)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    assert found_in(tmp_path)[0] == ["a.nii", "closed"]
    with pytest.raises(PermissionError):
        check_input_file(tmp_path / "closed")


def test_images_of_one_name_each_get_a_mask(tmp_path):
    rng = np.random.default_rng(0)
    for folder in ("monday", "tuesday"):
        (tmp_path / folder).mkdir()
        nib.save(nib.Nifti1Image(rng.normal(size=(33, 33, 33)).astype("f4"), np.eye(4)), tmp_path / folder / "scan.nii.gz")
    done = tta("run", BUNDLE, tmp_path / "monday", tmp_path / "tuesday", "--out", tmp_path / "out", "--method", "source")
    assert done.exit_code == 0 and "monday_scan (scan.nii.gz)" in done.output
    assert sorted(p.name for p in (tmp_path / "out").glob("*.nii.gz")) == ["monday_scan_seg.nii.gz", "tuesday_scan_seg.nii.gz"]
    (tmp_path / "alone").mkdir()
    assert tta("run", BUNDLE, tmp_path / "monday", "--out", tmp_path / "alone", "--method", "source").exit_code == 0
    again, first = (nib.load(tmp_path / p).get_fdata() for p in ("alone/scan_seg.nii.gz", "out/monday_scan_seg.nii.gz"))
    np.testing.assert_array_equal(again, first)
    (tmp_path / "monday" / "scan.nii.gz").write_bytes(b"damaged")
    done = tta("run", BUNDLE, tmp_path / "monday", "--out", tmp_path / "alone", "--method", "source")
    assert done.exit_code == 3 and "the mask of an earlier run is still there: scan_seg.nii.gz" in " ".join(done.output.split())


@pytest.mark.parametrize(
    ("words", "said"),
    [(["--head", "tanh"], "head must be one of"), (["--learn", "never"], "learn must be"), (["--budget", "-1"], "budget")],
)
def test_unknown_choices_end_with_one_line(tmp_path, words, said):
    (tmp_path / "scan.nii.gz").touch()
    done = tta("run", BUNDLE, tmp_path / "scan.nii.gz", "--out", tmp_path / "out", *words)
    assert done.exit_code == 2 and said in done.output and "Traceback" not in done.output


class HalfFailing:
    """A bundle whose postprocessing fails for one image after it has written the mask."""

    network, inferer, device = network(), SlidingWindowInferer(8), "cpu"
    adapt_with = SourceBundle.adapt_with

    def transforms(self, folder):
        def fail(pred):
            if "a.nii" in str(pred.meta["filename_or_obj"]):
                raise ValueError("the second output fails")
            return pred

        before = Compose([LoadImaged("image"), EnsureChannelFirstd("image")])
        save = SaveImaged("pred", output_dir=folder, separate_folder=False, print_log=False, output_postfix="seg")
        return before, Compose([AsDiscreted("pred", argmax=True), save, Lambdad("pred", fail)])


def test_the_mask_of_a_failed_image_is_not_taken_for_that_of_the_next(tmp_path):
    for name in "ab":
        nib.save(
            nib.Nifti1Image(np.random.default_rng(0).normal(size=(12,) * 3).astype("f4"), np.eye(4)), tmp_path / f"{name}.nii"
        )
    failed, segmented = segment(HalfFailing(), [tmp_path / "a.nii", tmp_path / "b.nii"], tmp_path / "out", Source())
    assert "the second output fails" in failed.error and not failed.masks
    assert [mask.name for mask in segmented.masks] == ["b_seg.nii.gz"] == [p.name for p in (tmp_path / "out").iterdir()]


def test_a_file_that_no_reader_can_read_is_called_damaged(tmp_path):
    (tmp_path / "eye.png").write_bytes(b"not a photograph")
    done = tta("run", BUNDLES / "vessel_fundus", tmp_path, "--out", tmp_path / "out", "--method", "source")
    assert done.exit_code == 3 and "damaged, or not an image" in " ".join(done.output.split())
    assert "install" not in done.output


def test_the_next_image_is_loaded_while_one_is_segmented(phantom_set, tmp_path, monkeypatch):
    """Image k + 1 is loaded before k is segmented, and never while the transforms of k are undone."""
    events, bundle = [], load_bundle(BUNDLE)

    def noting(name, function, wait=0.0):
        def noted(*args, **kwargs):
            events.append(f"{name} begins")
            time.sleep(wait)
            out = function(*args, **kwargs)
            events.append(f"{name} ends")
            return out

        return noted

    made, head = bundle.transforms, head_of(bundle.transforms(tmp_path)[1])

    def transforms(folder):
        before, after = made(folder)
        return noting("load", before), noting("save", after)

    monkeypatch.setattr(bundle, "transforms", transforms)
    bundle.network.forward = noting("answer", bundle.network.forward, wait=0.05)
    images = sorted((phantom_set / "images").iterdir())[:3]
    done = list(segment(bundle, images, tmp_path / "out", Source(), head=head))
    assert [o.error for o in done] == [None] * 3
    first = events.index("save begins")
    assert events[:first].count("load ends") == 2
    running = 0
    for event in events:
        running += {"load begins": 1, "load ends": -1}.get(event, 0)
        assert not (event == "save begins" and running)
