"""A comparison on an nnU-Net and a raw dataset folder: which cases there are, and that nnU-Net's own masks score 1."""

import json
from importlib.util import find_spec

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import torch
from monai.data import MetaTensor
from typer.testing import CliRunner

from monai_tta.cli.app import app
from monai_tta.evaluation import nnunet_labelled
from monai_tta.evaluation.example_pictures import case_slice
from monai_tta.evaluation.nnunet_labelled import NnUNetLabelledDomain, _Structures, _through, nnunet_protocol, structures_of
from monai_tta.evaluation.protocol import Domain
from monai_tta.evaluation.scoring import scores_of
from monai_tta.pipeline.bundle_config import BundleError
from monai_tta.reporting.rows import RowFile
from monai_tta.transforms.shift_mri import ContrastShift
from tests.pipeline.test_nnunet_files import Reader, plan_of
from tests.tiny_nnunet import LABELS, REGIONS, model_folder, write_case

MISSING = "nnunetv2 is not installed: pip install 'monai-tta[nnunet]'"
has_nnunet = pytest.mark.skipif(find_spec("nnunetv2") is None, reason=MISSING)


class LabelReader(Reader):
    """Also reads labels as nnU-Net's reader does."""

    def read_seg(self, file):
        return self.read_images([file])


@pytest.fixture
def planned(monkeypatch):
    """Plans as if nnunetv2 had read them: one channel of MR, two structures."""
    plan = plan_of(("T1",))
    plan.plans.image_reader_writer_class = LabelReader
    plan.configuration.normalization_schemes = ["ZScoreNormalization"]
    plan.dataset.update(labels=LABELS)
    monkeypatch.setattr(nnunet_labelled, "read_plan", lambda root: (plan, (0, 2)))
    return plan


def raw_dataset(folder, n=2):
    """A folder of nnUNet_raw, its labels the upper half of each image, in two parts."""
    for number in range(n):
        (file,) = write_case(folder / "imagesTr", f"c{number}", seed=number)
        label = np.zeros((15, 17, 19), np.uint8)
        label[8:, :9], label[8:, 9:] = 1, 2
        write_label(folder, f"c{number}", label, file)
    return folder


def write_label(folder, name, values, like):
    (folder / "labelsTr").mkdir(exist_ok=True)
    label = sitk.GetImageFromArray(values)
    label.CopyInformation(sitk.ReadImage(str(like)))
    sitk.WriteImage(label, str(folder / "labelsTr" / f"{name}.nii.gz"))


def test_structures_are_labels_or_regions_without_background_and_ignored():
    assert structures_of({"labels": LABELS}) == [("front", {1}), ("back", {2})]
    assert structures_of({"labels": REGIONS}) == [("whole", {1, 2}), ("core", {2})]


def test_a_protocol_follows_from_the_plans(planned, tmp_path):
    protocol = nnunet_protocol(tmp_path)
    assert protocol.labels == ("front", "back") and protocol.mirrors == (0, 2) and protocol.style == "mri"
    assert [d.label for d in protocol.domains] == ["labelled", "BiasFieldShift 3", "ContrastShift 3", "BlurNoiseShift 3"]
    planned.configuration.normalization_schemes = ["CTNormalization"]
    assert nnunet_protocol(tmp_path).domains[1].shift == "monai_tta.transforms.shift_ct.SoftKernelShift"
    planned.configuration.normalization_schemes = ["ZScoreNormalization", "CTNormalization"]
    assert len(nnunet_protocol(tmp_path).domains) == 1 and nnunet_protocol(tmp_path).style == "auto"


def test_cases_are_those_with_a_label_each_on_its_image(planned, tmp_path):
    folder = raw_dataset(tmp_path)
    write_case(folder / "imagesTr", "unlabelled")
    domain = NnUNetLabelledDomain(tmp_path, folder, Domain("labelled"))
    assert len(domain) == 2 == len(domain.groups)
    case = domain.case(1)
    file = nib.load(folder / "labelsTr" / "c1.nii.gz")
    assert np.array_equal(case["label"][0].numpy(), np.asarray(file.dataobj).transpose(2, 1, 0))
    assert np.allclose(case["label"].affine[:, [2, 1, 0, 3]], file.affine, atol=1e-5)
    assert np.array_equal(case["image"], case["loaded"])  # this preprocessor does nothing
    seen = case_slice(_Structures(planned.dataset)({**case, "pred": case["label"]}), 1.0)  # as for --pictures
    assert seen.image.shape == seen.label.shape[1:] and seen.label.any() and np.array_equal(seen.label, seen.answer)
    label = sitk.ReadImage(str(folder / "labelsTr" / "c1.nii.gz"))
    label.SetOrigin((0, 0, 0))
    sitk.WriteImage(label, str(folder / "labelsTr" / "c1.nii.gz"))
    (folder / "imagesTr" / "c0_0000.nii.gz").unlink()
    for number, words in ((1, "beside c1_0000.nii.gz"), (0, "it has no c0_0000.nii.gz")):
        with pytest.raises(BundleError, match=f"case {number} of 'labelled' cannot be read.*{words}"):
            domain.case(number)


def test_folders_without_labels_or_with_others_are_refused(planned, tmp_path):
    with pytest.raises(BundleError, match="give a folder of nnUNet_raw"):
        NnUNetLabelledDomain(tmp_path, tmp_path, Domain("labelled"))
    folder = raw_dataset(tmp_path)
    (folder / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "back": 1, "front": 2}}), "utf-8")
    with pytest.raises(BundleError, match=r"has the labels back \[1\], front \[2\]; the network's are front \[1\], back \[2\]"):
        NnUNetLabelledDomain(tmp_path, folder, Domain("labelled"))
    (folder / "dataset.json").write_text("[]", "utf-8")
    with pytest.raises(BundleError, match="does not say what its labels are"):
        NnUNetLabelledDomain(tmp_path, folder, Domain("labelled"))


def test_a_simulated_scanner_sees_each_channel_with_slices_last():
    image = MetaTensor(torch.rand(2, 5, 6, 7) * torch.tensor([1.0, 1000.0]).view(2, 1, 1, 1))
    scanner = ContrastShift(4, 3)
    seen = _through(lambda data: {"image": scanner(data["image"])}, image)
    for channel in range(2):
        wanted = scanner(image[channel : channel + 1].as_tensor().permute(0, 3, 2, 1)).permute(0, 3, 2, 1)[0]
        assert torch.equal(seen[channel].as_tensor(), wanted) and not torch.equal(wanted, image[channel].as_tensor())


@pytest.mark.parametrize("labels", [LABELS, REGIONS])
def test_scores_are_of_the_structures_and_of_what_is_not_ignored(labels):
    label = MetaTensor(torch.tensor([[[1, 1, 2, 2, 0, 3 if "ignore" in labels else 0]]]), affine=torch.eye(3))
    pred = torch.tensor([[[1, 2, 2, 0, 0, 2 if "ignore" in labels else 0]]])
    data = _Structures({"labels": labels})({"pred": pred, "label": label, "loaded": label})
    dice = [score.dice for score in scores_of(data, ("dice",))]
    assert dice == pytest.approx([6 / 7, 1 / 2] if "ignore" in labels else [2 / 3, 1 / 2])


def compared(model, dataset, out, *words):
    """Rows by contender and case."""
    result = CliRunner().invoke(app, ["compare", str(model), "--dataset-dir", str(dataset), "--out", str(out), *words])
    assert result.exit_code == 0, result.output
    file = RowFile(out / "rows.sqlite")
    rows = {(row.key.contender, row.key.number): row for row in file.rows()}
    file.close()
    return rows


@has_nnunet
@pytest.mark.parametrize("how", [{"folds": (0, 1)}, {"labels": REGIONS}])
def test_nnunets_own_masks_score_one(how, tmp_path):
    model = model_folder(tmp_path / "model", **how)
    dataset = tmp_path / "raw"
    files = [write_case(dataset / "imagesTr", f"c{number}", seed=number)[0] for number in range(2)]
    run = ["run", str(model), str(dataset / "imagesTr"), "--out", str(tmp_path / "masks"), "--method", "source"]
    assert CliRunner().invoke(app, run).exit_code == 0
    for number, file in enumerate(files):
        values = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "masks" / f"c{number}_seg.nii.gz")))
        if number == 1:
            values[:8] = 3 if "ignore" in how.get("labels", {}) else 0
        write_label(dataset, f"c{number}", values, file)
    rows = compared(
        model, dataset, tmp_path / "out", "--only", "Tent", "--domain", "labelled", "--workers", "1", "--metrics", "dice"
    )
    assert sorted(rows) == [("Source", 0), ("Source", 1), ("Tent", 0), ("Tent", 1)]
    assert [score.dice for score in rows["Source", 0].scores] == [1.0, 1.0]
    second = [score.dice for score in rows["Source", 1].scores]
    assert second == [1.0, 1.0] if "labels" in how else all(0 < dice < 1 for dice in second)
    assert rows["Source", 0].answer != rows["Tent", 0].answer and rows["Tent", 0].reason is None
