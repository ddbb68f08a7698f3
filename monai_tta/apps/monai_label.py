"""MONAI Label serves a bundle or an nnU-Net that adapts to each image: 3D Slicer and OHIF then show the adapted masks.

It needs the package ``monailabel`` (extra ``[label]``). docs/programs.md says how a server is started.
"""

from __future__ import annotations

import os
import shutil
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory, mkstemp
from threading import Lock
from typing import Any

import SimpleITK as sitk
from monailabel.interfaces.app import MONAILabelApp
from monailabel.interfaces.exception import MONAILabelError, MONAILabelException
from monailabel.interfaces.tasks.infer_v2 import InferTask, InferType

from monai_tta.core.method import AdaptationMethod
from monai_tta.core.record import reasons_on_record_alone
from monai_tta.methods import Source
from monai_tta.pipeline.bundle_config import NO_CHANGES
from monai_tta.pipeline.bundle_predictor import find_quality
from monai_tta.pipeline.load_to_adapt import load_to_adapt
from monai_tta.pipeline.mask_labels import LabelNames
from monai_tta.pipeline.method_by_name import named_method
from monai_tta.pipeline.outcome import Outcome
from monai_tta.pipeline.quality_words import quality_in_words, quality_on_record
from monai_tta.pipeline.segment import segment
from monai_tta.pipeline.shipped_bundles import find_bundle
from monai_tta.pipeline.source_files import weights_file

FORMS = (".nii.gz", ".nii", ".nrrd", ".mha")  # in which a client may ask for a mask
USUAL_FORM = ".nii.gz"


class AdaptiveInferTask(InferTask):
    """Answers each image as `monai-tta run` does: with the same mask, and what is on its record beside it.

    A request may hold ``adapt`` (False: no adaptation, to compare with) and ``result_extension``, one of `FORMS`. Requests are
    answered one after the other, because adapting takes memory.

    Args:
        bundle: the folder of a bundle or an nnU-Net, or the name of a shipped bundle.
        method: its name, as for ``monai-tta run --method``; None for the safe one.
        checkpoint: a file in the bundle's ``models``; None for the one that its config names.
        device: where the network computes, e.g. "cuda:0"; None for where the bundle puts it.
        seed: of all random draws.

    Raises:
        ValueError: for a bundle, method or checkpoint that cannot be used.
    """

    def __init__(
        self,
        bundle: str | Path,
        method: str | None = None,
        checkpoint: str | None = None,
        device: str | None = None,
        seed: int = 0,
    ) -> None:
        root = find_bundle(Path(bundle), nnunet=True)
        named = None if method is None else named_method(method)
        told: list[str] = []
        self.bundle, self.method, name = load_to_adapt(root, checkpoint, device, NO_CHANGES, named, told.append)
        weights = weights_file(root, name)
        self.quality, self.no_quality = find_quality(self.bundle.network, weights, root, NO_CHANGES)
        self.names = LabelNames.of_metadata(self.bundle.metadata())
        self.seed = seed
        self._lock = Lock()
        chosen = [] if named is None else [f"method: {self.method.record_name}"]
        super().__init__(
            type=InferType.SEGMENTATION,
            labels={label: value for value, label in self.names.channels.items() if value > 0},
            dimension=3,
            description="; ".join([f"{root.name}, adapted to each image", *told, *chosen]),
            config={"adapt": True},
        )

    def is_valid(self) -> bool:
        """True: what a bundle lacks is said when the task is made."""
        return True

    def __call__(self, request: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        """Answer one image.

        Args:
            request: with ``image``, the path of a file or of a folder with a DICOM series.

        Returns:
            the mask's file, a temporary one that the server removes when it is sent, and what is on its record.

        Raises:
            MONAILabelException: for an image that cannot be segmented; the message says why.
        """
        image = request.get("image")
        if not isinstance(image, str):
            raise _refused(f"an image is the path of a file or of a folder with a DICOM series, found {type(image).__name__}")
        form = str(request.get("result_extension") or USUAL_FORM)
        if form not in FORMS:
            raise _refused(f"masks are written as {', '.join(FORMS)}; {form!r} was asked for")
        method = self.method if _is_true(request.get("adapt", True)) else Source()
        with TemporaryDirectory(prefix="monai_tta_") as folder:
            with self._lock, reasons_on_record_alone():
                outcome = self._segment(Path(image), Path(folder), method)
            if outcome.error is not None:
                raise MONAILabelException(MONAILabelError.INFERENCE_ERROR, f"{Path(image).name}: {outcome.error}")
            if len(outcome.masks) != 1:
                files = ", ".join(mask.name for mask in outcome.masks)
                raise _refused(f"MONAI Label takes one mask for an image, and this bundle writes {len(outcome.masks)}: {files}")
            return _temporary_copy(outcome.masks[0], form), self._on_record(outcome)

    def _segment(self, image: Path, out: Path, method: AdaptationMethod) -> Outcome:
        todo = segment(self.bundle, [image], out, method, seed=self.seed, quality=self.quality)
        with closing(todo):
            return next(todo)

    def _on_record(self, outcome: Outcome) -> dict[str, Any]:
        case = outcome.case
        assert case is not None  # an outcome without an error has one
        words = quality_in_words(case, self.names) or f"what the mask is worth is not known: {self.no_quality}"
        return {
            "adapted": case.adapted,
            "reason": case.reason,
            "method": case.method,
            "worth": words,
            **quality_on_record(case, self.names),
            "notes": list(outcome.notes),
        }


class AdaptiveLabelApp(MONAILabelApp):
    """An app with one `AdaptiveInferTask`. Its ``main.py`` needs to import this class and nothing more.

    ``--conf bundle BUNDLE`` names the bundle; ``--conf method``, ``--conf checkpoint``, ``--conf device`` and ``--conf seed`` are
    arguments of `AdaptiveInferTask`.

    Args:
        app_dir: the app's folder.
        studies: the folder of images, or the address of a DICOM server.
        conf: what was given with ``--conf``.

    Raises:
        MONAILabelException: without a bundle, or for one that cannot be used.
    """

    def __init__(self, app_dir: str, studies: str, conf: dict[str, str]) -> None:
        super().__init__(
            app_dir=app_dir,
            studies=studies,
            conf=conf,
            name="monai_tta",
            description="Segmentation that adapts to each image",
            labels=None,
        )

    def init_infers(self) -> dict[str, InferTask]:
        """The one task, under the bundle's name."""
        if not self.conf.get("bundle"):
            raise MONAILabelException(MONAILabelError.APP_INIT_ERROR, "name a bundle: --conf bundle BUNDLE")
        given = {name: self.conf[name] for name in ("method", "checkpoint", "device") if self.conf.get(name)}
        try:
            task = AdaptiveInferTask(self.conf["bundle"], seed=int(self.conf.get("seed", 0)), **given)
        except (ValueError, OSError) as error:
            raise MONAILabelException(MONAILabelError.APP_INIT_ERROR, str(error)) from error
        return {Path(self.conf["bundle"]).name: task}


def _is_true(value: Any) -> bool:
    """What a client's checkbox or form field means."""
    return str(value).strip().lower() not in ("false", "0", "no", "off")


def _temporary_copy(mask: Path, form: str) -> str:
    """A mask's file in the form that was asked for, outside of its folder."""
    descriptor, name = mkstemp(prefix="monai_tta_", suffix=form)
    os.close(descriptor)
    if mask.name.endswith(form):
        shutil.copyfile(mask, name)
    else:
        sitk.WriteImage(sitk.ReadImage(str(mask)), name, useCompression=True)
    return name


def _refused(words: str) -> MONAILabelException:
    return MONAILabelException(MONAILabelError.INVALID_INPUT, words)
