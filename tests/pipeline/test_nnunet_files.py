"""nnU-Net model folders as far as nnunetv2 is not needed: which folder is one, which files are a case, what is refused, and
how an inferer of nnU-Net's kind is handed a network that adapts."""

import itertools
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import torch
from typer.testing import CliRunner

from monai_tta import Source, Statistics, Tent
from monai_tta.cli.app import app
from monai_tta.pipeline import nnunet_files
from monai_tta.pipeline.bundle import BundleError, load_bundle
from monai_tta.pipeline.case_file import content_of, files_of
from monai_tta.pipeline.case_lists import ListedCase
from monai_tta.pipeline.content_hashes import content_id
from monai_tta.pipeline.find_images import search_images
from monai_tta.pipeline.load_image import read_image
from monai_tta.pipeline.nnunet_cases import case_files, check_sequences, list_cases, with_problems
from monai_tta.pipeline.nnunet_checkpoint import read_checkpoint
from monai_tta.pipeline.nnunet_files import Cases, ModelFolderError, checkpoint_files, is_nnunet_folder
from monai_tta.pipeline.nnunet_inferer import FoldsInferer, NnUNetWindows
from monai_tta.pipeline.nnunet_transforms import PROPERTIES, LoadNnUNetCased, Plan, PrepareNnUNetCased
from monai_tta.pipeline.output_head import head_of
from monai_tta.pipeline.segment import settings_of
from monai_tta.pipeline.source_files import weights_file, weights_files
from monai_tta.pipeline.value_range import ExpectedRange
from monai_tta.quality.corrections import Reorder, ScaledSpacing
from tests.small import network
from tests.tiny_nnunet import checkpoint, write_case, write_descriptions, write_picture


def tta(*words):
    result = CliRunner().invoke(app, list(map(str, words)))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def empty_model(folder, files=("fold_0/checkpoint_final.pth",)):
    """A model folder whose checkpoints hold nothing."""
    write_descriptions(folder)
    for name in files:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()
    return folder


def test_a_model_folder_is_told_from_a_bundle_and_from_other_folders(tmp_path):
    model = empty_model(tmp_path / "Dataset001_Tiny" / "nnUNetTrainer__nnUNetPlans__2d")
    assert is_nnunet_folder(model) and not is_nnunet_folder(model / "fold_0") and not is_nnunet_folder(model.parent)
    (model / "configs").mkdir()
    (model / "configs" / "inference.yaml").touch()
    assert not is_nnunet_folder(model)


def test_near_misses_are_told_what_to_give(tmp_path):
    model = empty_model(tmp_path / "Dataset001_Tiny" / "nnUNetTrainer__nnUNetPlans__2d")
    raw, old = tmp_path / "raw", tmp_path / "old"
    for folder in (raw, old):
        folder.mkdir()
    (raw / "dataset.json").touch()
    (old / "plans.pkl").touch()
    for folder, words in {
        model.parent: "give one of them: nnUNetTrainer__nnUNetPlans__2d",
        model / "fold_0": r"is a fold .* --checkpoint fold_0/checkpoint_final.pth",
        raw: "give the folder of the trained model",
        old: "nnU-Net v1",
    }.items():
        with pytest.raises(BundleError, match=words):
            load_bundle(folder)


def test_checkpoints_are_those_of_all_folds_in_nnunets_order(tmp_path):
    names = [f"fold_{n}/checkpoint_final.pth" for n in (0, 2, 10, "all")] + ["fold_1/checkpoint_best.pth"]
    model = empty_model(tmp_path, names)

    def found(checkpoint):
        return [file.relative_to(model).as_posix() for file in checkpoint_files(model, checkpoint)]

    assert found("") == found(None) == [names[0], names[2], names[1]]  # by their names, as nnU-Net sorts them
    assert found("checkpoint_best.pth") == ["fold_1/checkpoint_best.pth"]
    assert found("fold_all/checkpoint_final.pth") == ["fold_all/checkpoint_final.pth"]
    assert nnunet_files.folds_without(model, checkpoint_files(model, None)) == ["fold_1"]
    for wrong in ("fold_1/checkpoint_final.pth", "checkpoint_latest.pth", "../fold_0/checkpoint_final.pth", "fold_0/../x.pth"):
        with pytest.raises(ModelFolderError, match="it has fold_0/checkpoint_final.pth, fold_1/checkpoint_best.pth"):
            checkpoint_files(model, wrong)


def test_fold_all_is_used_where_there_is_no_other(tmp_path):
    model = empty_model(tmp_path, ["fold_all/checkpoint_final.pth"])
    assert [file.parent.name for file in checkpoint_files(model, None)] == ["fold_all"]


def test_what_a_mask_depends_on_is_hashed_for_resuming(tmp_path):
    model = empty_model(tmp_path, ["fold_0/checkpoint_final.pth", "fold_1/checkpoint_final.pth"])
    before = settings_of(model, "checkpoint_final.pth", Source(), {})
    (model / "fold_1" / "checkpoint_final.pth").write_text("other", "utf-8")
    after = settings_of(model, "checkpoint_final.pth", Source(), {})
    (model / "plans.json").write_text("{}", "utf-8")
    last = settings_of(model, "checkpoint_final.pth", Source(), {})
    assert before["weights"] != after["weights"] == last["weights"] and after["bundle"] != last["bundle"]
    assert len(weights_files(model, "checkpoint_final.pth")) == 2
    assert weights_file(model, "checkpoint_final.pth") == model / "fold_0" / "checkpoint_final.pth"
    with pytest.raises(BundleError, match="has no fold_"):
        weights_files(model, "model.pt")


ONE, TWO = Cases(".nii.gz", ("T1",)), Cases(".nii.gz", ("T1", "FLAIR"))


def test_channels_are_grouped_by_nnunets_names(tmp_path):
    b = write_case(tmp_path, "b", 2)
    a = write_case(tmp_path, "a_2024", 2)
    assert TWO.first_files([b[1], *a, b[0]]) == [b[0], a[0]]
    assert TWO.files(b[1]) == b and TWO.name(a[1]) == "a_2024"
    plain = tmp_path / "plain.nii.gz"
    assert ONE.first_files([plain, plain]) == [plain] and ONE.files(plain) == [plain] and ONE.name(plain) == "plain"


def test_files_that_are_no_case_fail_one_by_one_in_words(tmp_path):
    b = write_case(tmp_path, "b", 3)
    lone = write_case(tmp_path, "lone", 1)[0]
    assert ONE.first_files(b) == b  # a follow-up study is nobody's channel: it may not vanish
    for cases, file, words in [
        (ONE, b[1], "b_0001.nii.gz is channel 1.*takes b_0000.nii.gz .T1.*call it b_0001_0000.nii.gz"),
        (TWO, b[0], "it also has b_0002.nii.gz, a channel too many"),
        (TWO, lone, "it has no lone_0001.nii.gz"),
        (TWO, tmp_path / "x.nii.gz", "x.nii.gz has no channel's number"),
        (ONE, tmp_path / "x.mha", "x.mha does not end in .nii.gz"),
        (ONE, tmp_path, "convert a DICOM series"),
    ]:
        with pytest.raises(ValueError, match=words):
            cases.files(file)


def test_one_photograph_holds_the_channels_of_its_colours(tmp_path):
    colours = Cases(".png", ("R", "G", "B"), colours=True)
    (photograph,) = write_picture(tmp_path, "p")
    assert colours.files(photograph) == [photograph] and not colours.problem_of([photograph])
    (tmp_path / "p_0001.png").touch()
    with pytest.raises(ValueError, match="it has no p_0002.png"):
        colours.files(photograph)


def test_what_an_image_is_is_read_from_the_descriptions(tmp_path):
    write_descriptions(tmp_path, channels=("T1", "FLAIR"), ending=".nrrd")
    cases = Cases.of_folder(tmp_path)
    assert (cases.ending, cases.channels, cases.colours) == (".nrrd", ("T1", "FLAIR"), False)
    write_descriptions(tmp_path, reader="NaturalImage2DIO")
    assert Cases.of_folder(tmp_path).colours
    for wrong in ("", "[]", "null", '{"labels": {}}', "[" * 100_000, '{"channel_names": {"x": 1}, "file_ending": ""}'):
        (tmp_path / "dataset.json").write_text(wrong, "utf-8")
        with pytest.raises(ModelFolderError, match="do not say what an image is"):
            Cases.of_folder(tmp_path)


def test_cases_have_unique_names_and_all_their_files(tmp_path):
    first = write_case(tmp_path / "in" / "p1", "b", 2)
    second = write_case(tmp_path / "in" / "p2", "b", 2)
    lone = write_case(tmp_path / "in", "lone", 1)[0]
    listed = list_cases(TWO, search_images([tmp_path / "in"]), tmp_path / "out")
    assert {case.name: case.files for case in listed} == {"lone": (lone,), "p1_b": tuple(first), "p2_b": tuple(second)}
    assert [bool(case.problem) for case in listed] == [case.name == "lone" for case in listed]
    with case_files(TWO, [tmp_path / "in"]) as images:
        assert [image.name for image in images] == [f"{case.name}.case" for case in listed]
        assert files_of(images[-1]) == tuple(second)
        with pytest.raises(ValueError, match="case lone: it has no lone_0001"):
            content_of(images[[case.name for case in listed].index("lone")])


def test_cases_that_somebody_listed_need_the_networks_channels(tmp_path):
    files = write_case(tmp_path, "b", 3)
    listed = [ListedCase(f"{n}", tuple(files[:n]), problem) for n, problem in ((1, ""), (2, ""), (3, ""), (1, "it is odd"))]
    problems = [case.problem for case in with_problems(TWO, [*listed, ListedCase("x", (tmp_path / "x.mha", files[0]))])]
    assert problems[1] == "" and problems[3] == "it is odd" and "does not end in .nii.gz" in problems[4]
    assert problems[0] == "it has 1 files; this network takes 2: T1, FLAIR" and "it has 3 files" in problems[2]


def test_sequences_in_another_order_than_the_networks_are_refused():
    check_sequences(TWO, ("t1", "flair"))
    check_sequences(TWO, ("x", "y"))
    with pytest.raises(ValueError, match="this network's channels are T1, FLAIR"):
        check_sequences(TWO, ("flair", "t1"))


def test_channels_must_lie_in_one_place(tmp_path):
    files = write_case(tmp_path, "b", 2)

    def read():
        with case_files(TWO, [tmp_path]) as (case,):
            return read_image(case, lambda data: pytest.fail(f"{data}"), ExpectedRange())

    image = sitk.ReadImage(str(files[1]))
    image.SetOrigin((12.0, -20.0, 30.0))
    sitk.WriteImage(image, str(files[1]))
    with pytest.raises(ValueError, match="beside b_0000.nii.gz"):
        read()
    sitk.WriteImage(image[1:], str(files[1]))
    with pytest.raises(ValueError, match="need one grid"):
        read()


def test_a_changed_second_channel_is_another_image_when_a_run_resumes(tmp_path):
    files = write_case(tmp_path / "in", "b", 2)

    def content():
        with case_files(TWO, [tmp_path / "in"]) as (case,):
            return content_id(case)

    before = content()
    write_case(tmp_path / "other", "b", 2, seed=1)[1].replace(files[1])
    assert content() != before


def test_a_second_channel_alone_is_a_case_that_fails(tmp_path):
    file = write_case(tmp_path, "b", 2)[1]
    (tmp_path / "b_0000.nii.gz").unlink()
    assert TWO.first_files([file]) == [file]
    with pytest.raises(ValueError, match="it has no b_0000.nii.gz"):
        TWO.files(file)


def test_numpys_scalars_are_read_and_nothing_else_is(tmp_path):
    file = tmp_path / "checkpoint_final.pth"
    torch.save(checkpoint({"a": torch.ones(2)}), file)
    assert read_checkpoint(file)["_best_ema"] == 0.5
    torch.save({"network_weights": {}, "trainer_name": "t", "init_args": {"configuration": "2d"}, "x": np.ones(2)}, file)
    with pytest.raises(BundleError, match=r"weights only .it holds numpy\._?core\.multiarray\._reconstruct, which is no number"):
        read_checkpoint(file)


@pytest.mark.parametrize(
    ("number", "dtype"), [(np.int64(1), "Int64DType"), (np.float16(1), "Float16DType"), (np.bool_(True), "BoolDType")]
)
def test_a_numpy_scalar_that_is_not_let_in_is_named(number, dtype, tmp_path):
    torch.save(checkpoint({}, epoch=number), tmp_path / "x.pth")
    with pytest.raises(BundleError, match=f"it holds a scalar of numpy.*{dtype}; .* only those of float32 and float64") as found:
        read_checkpoint(tmp_path / "x.pth")
    assert "damaged" not in str(found.value)


def test_scalars_that_numpy_1_wrote_are_read(tmp_path, monkeypatch):
    scalar = np.float64(0.5).__reduce__()[0]  # the function that a pickle calls
    monkeypatch.setattr(scalar, "__module__", "numpy.core.multiarray")
    torch.save(checkpoint({}), tmp_path / "x.pth")
    assert "numpy.core.multiarray.scalar" in torch.serialization.get_unsafe_globals_in_checkpoint(tmp_path / "x.pth")
    assert read_checkpoint(tmp_path / "x.pth")["_best_ema"] == 0.5


class Boom:
    def __reduce__(self):
        return (exec, ("raise SystemExit",))


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (lambda f: f.write_bytes(b"no pickle"), "cannot be read as weights only"),
        (lambda f: torch.save(Boom(), f), "weights only"),
        (lambda f: torch.save({"network_weights": {}}, f), "no checkpoint of nnU-Net v2"),
        (lambda f: torch.save([1], f), "no checkpoint of nnU-Net v2"),
        (lambda f: torch.save(checkpoint({}, init_args={}), f), "for which configuration"),
        (lambda f: torch.save(checkpoint({}, init_args=[]), f), "for which configuration"),
    ],
)
def test_checkpoints_that_are_none_are_refused(write, words, tmp_path):
    write(tmp_path / "x.pth")
    with pytest.raises(BundleError, match=words):
        read_checkpoint(tmp_path / "x.pth")


def test_without_nnunetv2_the_extra_is_named_and_other_commands_refuse_at_once(tmp_path, monkeypatch):
    def missing(name):
        raise nnunet_files.PackageNotFoundError(name)

    model = empty_model(tmp_path / "model")
    write_case(tmp_path / "in", "case")
    refused = tta("overlay", model)
    assert refused.exit_code == 2 and "does not support nnU-Net yet; `monai-tta run`" in refused.output
    monkeypatch.setattr(nnunet_files, "version", missing)
    done = tta("run", model, tmp_path / "in", "--out", tmp_path / "out")
    assert done.exit_code == 2 and "pip install 'monai-tta[nnunet]'" in done.output and not (tmp_path / "out").exists()
    monkeypatch.setattr(nnunet_files, "version", lambda name: "2.5.1")
    with pytest.raises(ImportError, match="nnunetv2 2.5.1 is too old"):
        nnunet_files.check_nnunetv2()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--set", "network_def#channels=[8,16]"], "has no config that --set and --config could change"),
        (["--config", "other.yaml"], "has no config that --set and --config could change"),
        (["--prompts", "prompts.json"], "--prompts is for promptable networks"),
        (["--main-output", "0"], "--main-output is for networks of several outputs"),
        (["--checkpoint", "model.pt"], "has no fold_*/model.pt"),
        (["--group", "{case}_{sequence}.nii.gz", "--sequences", "FLAIR,T1"], "this network's channels are T1, FLAIR"),
    ],
)
def test_options_that_make_no_sense_for_an_nnunet_are_refused(words, says, tmp_path, monkeypatch):
    monkeypatch.setattr(nnunet_files, "version", lambda name: "2.8.1")
    model = empty_model(tmp_path / "model")
    write_descriptions(model, channels=("T1", "FLAIR"))
    for channel in ("T1", "FLAIR"):
        write_case(tmp_path / "in", channel)[0].rename(tmp_path / "in" / f"a_{channel}.nii.gz")
    done = tta("run", model, tmp_path / "in", "--out", tmp_path / "out", *words)
    assert done.exit_code == 2 and says in " ".join(done.output.split()), done.output
    assert not (tmp_path / "out").exists()


def test_labelled_data_and_config_changes_are_refused_where_other_commands_take_an_nnunet(tmp_path, monkeypatch):
    monkeypatch.setattr(nnunet_files, "version", lambda name: "2.8.1")
    model = empty_model(tmp_path / "model")
    done = tta("reference", model, "--dataset-dir", tmp_path, "--out", tmp_path / "reference.json")
    assert done.exit_code == 2 and "give an nnU-Net images of its source" in done.output
    done = tta("profile", model, "--set", "network_def#channels=[8,16]")
    assert done.exit_code == 2 and "has no config" in done.output


class Preprocessor:
    """Crops and resamples nothing, and keeps what it was given."""

    def __init__(self, verbose):
        self.given = []

    def run_case_npy(self, voxels, seg, properties, plans, configuration, dataset):
        self.given.append((voxels.copy(), properties))
        return voxels, seg, properties


class Reader:
    """Reads as nnU-Net's reader by SimpleITK does."""

    def read_images(self, files):
        images = [sitk.ReadImage(file) for file in files]
        stuff = {"spacing": images[0].GetSpacing(), "origin": images[0].GetOrigin(), "direction": images[0].GetDirection()}
        voxels = np.stack([sitk.GetArrayFromImage(image) for image in images])
        return voxels, {"spacing": images[0].GetSpacing()[::-1], "sitk_stuff": stuff}


def plan_of(channels):
    """What the transforms ask nnU-Net for."""
    plans = SimpleNamespace(image_reader_writer_class=Reader, transpose_forward=[0, 1, 2])
    configuration = SimpleNamespace(preprocessor_class=Preprocessor, spacing=[1.0, 1.0, 1.0])
    return Plan(plans, configuration, {}, Cases(".nii.gz", channels), "softmax")


def test_an_image_is_loaded_where_its_header_puts_it(tmp_path):
    files = write_case(tmp_path, "b", 2)
    plan = plan_of(("T1", "FLAIR"))
    with case_files(plan.cases, [tmp_path]) as (case,):
        image = read_image(case, LoadNnUNetCased(plan), ExpectedRange()).data["image"]
    assert image.shape == (2, 15, 17, 19)
    affine = nib.load(files[0]).affine
    assert np.allclose(image.affine[:, [2, 1, 0, 3]], affine, atol=1e-5)
    assert np.allclose(image.meta["original_affine"], affine, atol=1e-5)
    with pytest.raises(ValueError, match="it holds 1 channels; this network takes 2: T1, FLAIR"):
        LoadNnUNetCased(plan)({"image": str(files[0])})


def test_nnunet_is_told_of_a_corrected_spacing_and_of_corrected_axes(tmp_path):
    (file,) = write_case(tmp_path, "b")
    plan = plan_of(("T1",))
    image = LoadNnUNetCased(plan)({"image": str(file)})["image"]
    prepare = PrepareNnUNetCased(plan)
    spacing = tuple(image.meta[PROPERTIES]["spacing"])
    for correction in (Reorder("", (0, 1, 2), (1,)), Reorder("", (2, 0, 1), ()), ScaledSpacing("", "", (2.0, 1.0, 0.5))):
        corrected = correction.apply(image)
        prepared = prepare({"image": corrected})
        voxels, given = prepare.preprocessor.given[-1]
        assert np.array_equal(voxels, corrected.as_tensor().numpy())
        factors = getattr(correction, "factors", (1, 1, 1))
        assert np.allclose(given["spacing"], np.multiply(spacing, factors), rtol=1e-6)
        assert prepared[PROPERTIES] is given and image.meta[PROPERTIES]["spacing"] == spacing
    prepare({"image": image})
    assert prepare.preprocessor.given[-1][1]["spacing"] == spacing  # to the last bit, or the mask may differ


class Predictor:
    """Asks its network as nnU-Net's predictor does: moved to a device first, then window by window, each mirrored."""

    def __init__(self, axes=(0, 1), window=(8, 8, 8)):
        self.configuration_manager = SimpleNamespace(patch_size=list(window))
        self.use_mirroring = True
        self.axes = axes
        self.device = torch.device("cpu")
        self.network = None

    @torch.inference_mode()
    def predict_sliding_window_return_logits(self, image):
        self.network = self.network.to(self.device)
        self.network.eval()
        total = torch.zeros((3, *image.shape[1:]), dtype=torch.half)
        for z in range(0, image.shape[1], 8):
            window = torch.clone(image[None, :, z : z + 8])
            answer = self.network(window)
            if self.use_mirroring:
                axes = [a + 2 for a in self.axes]
                flips = [some for n in range(len(axes)) for some in itertools.combinations(axes, n + 1)]
                for flip in flips:
                    answer += torch.flip(self.network(torch.flip(window, flip)), flip)
                answer /= len(flips) + 1
            total[:, z : z + 8] += answer[0]
        return total


def fold(number):
    """A network with running statistics, other than that of another fold."""
    net = network()
    for parameter in net.parameters():
        parameter.data *= 1 + 0.2 * number
    return net


@pytest.fixture
def image():
    return torch.rand(1, 1, 16, 8, 8, generator=torch.Generator().manual_seed(0))


def test_what_asks_as_nnunet_does_is_answered_by_what_it_was_handed(image):
    source = network()
    windows = NnUNetWindows(Predictor(), 3)
    inferer = FoldsInferer(Tent(), [source], windows, head="softmax", budget=None)
    adapted, plain = inferer(image, source), windows(image, source)
    assert inferer.cases[-1].adapted and not torch.equal(adapted, plain.half())
    assert inferer.cases[-1].n_windows == 2  # and not their mirrored copies
    assert windows.predictor.network is None  # calls share nothing
    assert torch.equal(FoldsInferer(Source(), [source], windows, head="softmax")(image, source), plain.half())


def test_an_answer_that_nobody_was_asked_for_is_an_error(image):
    predictor = Predictor()
    predictor.predict_sliding_window_return_logits = lambda image: torch.zeros(3, *image.shape[1:])
    with pytest.raises(RuntimeError, match="has not asked the network"):
        NnUNetWindows(predictor, 3)(image, network())


def test_a_failure_reaches_the_caller_after_the_last_window(image):
    asked = []

    def failing(windows):
        asked.append(windows)
        raise ZeroDivisionError("at the first window")

    with pytest.raises(ZeroDivisionError):
        NnUNetWindows(Predictor(), 3)(image, failing)
    assert len(asked) == 1


def test_a_scan_that_ends_early_lets_nnunet_come_to_its_end(image):
    """One of nnU-Net's threads would otherwise wait for ever, with the image."""

    class Waiting(Predictor):
        begun = ended = 0

        def predict_sliding_window_return_logits(self, image):
            Waiting.begun += 1
            answer = super().predict_sliding_window_return_logits(image)
            Waiting.ended += 1
            return answer

    source = network()
    inferer = FoldsInferer(Tent(), [source], NnUNetWindows(Waiting(), 3), head="softmax", learn="window")
    inferer(image, source)
    assert inferer.cases[-1].adapted and Waiting.begun == Waiting.ended > 1


def test_windows_are_no_inference_tensors_and_may_be_written_to(image):
    def writes(windows):
        assert not windows.is_inference()
        return windows.zero_().expand(-1, 3, -1, -1, -1).clone()

    before = image.clone()
    NnUNetWindows(Predictor(), 3)(image, writes)
    assert torch.equal(image, before)


def test_folds_are_averaged_in_half_precision_and_counted_in_one_record(image):
    folds = [fold(number) for number in (1, 2, 3)]
    windows = NnUNetWindows(Predictor(), 3)
    inferer = FoldsInferer(Statistics(), folds, windows, head="softmax")
    alone = [FoldsInferer(Statistics(), [one], windows, head="softmax") for one in folds]
    answers = [each(image, one) for each, one in zip(alone, folds, strict=True)]
    assert torch.equal(inferer(image, folds[0]), (answers[0] + answers[1] + answers[2]) / 3)
    (case,) = inferer.cases
    assert case.number == 0 and case.n_windows == sum(each.cases[0].n_windows for each in alone)
    with pytest.raises(ValueError, match="folds are answered together"):
        inferer(image, folds[1])


def test_where_one_fold_cannot_adapt_none_is_adapted(image):
    folds = [fold(1), fold(2)]
    windows = NnUNetWindows(Predictor(), 3)
    plain = FoldsInferer(Source(), folds, windows, head="softmax")(image, folds[0])
    seen = []

    def second(unadapted, adapted, head):
        seen.append(adapted)
        return "refused" if len(seen) == 2 else None

    inferer = FoldsInferer(Tent(), folds, windows, head="softmax", guard=second)
    with pytest.warns(UserWarning, match="refused"):
        answer = inferer(image, folds[0])
    assert torch.equal(answer, plain) and inferer.cases[-1].reason == "fold 2 of 2: refused"


def test_the_head_is_what_an_export_says():
    assert head_of(SimpleNamespace(head="sigmoid")) == "sigmoid" and head_of(SimpleNamespace(head=3)) == "auto"
