"""Whether this installation is complete and computes as it should: packages, machine, and one adapted answer."""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, metadata, version

from packaging.requirements import Requirement

from monai_tta.pipeline.describe_error import describe_error
from monai_tta.pipeline.shipped_bundles import BUNDLES, shipped_bundles

PACKAGE = "monai-tta"
FOR_DEVELOPERS = ("dev", "docs")  # extras that no user needs
TRIED = "hippocampus_mri"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Args:
        what: what it is.
        found: what was found, in words.
        problem: what is wrong and what to do; empty where nothing is.
    """

    what: str
    found: str
    problem: str = ""


def examine() -> list[Finding]:
    """Look at everything."""
    return [*_packages(), *_machine(), *_bundles(), _adapted_answer()]


def _packages() -> list[Finding]:
    """What the package needs, and what its extras need."""
    try:
        about = metadata(PACKAGE)
    except PackageNotFoundError:
        return [Finding(PACKAGE, "not installed", "install it, so that its packages come with it: pip install -e .")]
    needed = [Requirement(line) for line in about.get_all("Requires-Dist") or []]
    found = [Finding("Python", platform.python_version()), Finding(PACKAGE, version(PACKAGE))]
    found += [_package(one) for one in needed if _is_for(one, "")]
    extras = sorted(set(about.get_all("Provides-Extra") or []) - set(FOR_DEVELOPERS))
    return found + [_extra(name, [one for one in needed if not _is_for(one, "") and _is_for(one, name)]) for name in extras]


def _is_for(requirement: Requirement, extra: str) -> bool:
    """Whether a requirement is one of an installation with this extra; "" for none."""
    return requirement.marker is None or requirement.marker.evaluate({"extra": extra})


def _package(requirement: Requirement) -> Finding:
    """A package that is needed."""
    name, command = requirement.name, f'pip install "{requirement.name}{requirement.specifier}"'
    installed = _version_of(name)
    if installed is None:
        return Finding(name, "not installed", f"it is needed: {command}")
    if not requirement.specifier.contains(installed, prereleases=True):
        return Finding(name, installed, f"{requirement.specifier} is needed: {command}")
    return Finding(name, installed)


def _extra(name: str, needed: list[Requirement]) -> Finding:
    """An extra, which nobody needs who does not use it: that it lacks something is no problem."""
    lacks = [one.name for one in needed if _package(one).problem]
    if not lacks:
        return Finding(f"extra [{name}]", "installed")
    return Finding(f"extra [{name}]", f"not complete: without {', '.join(lacks)}")


def _version_of(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _machine() -> list[Finding]:
    """What there is to compute with and to write on."""
    import torch

    from monai_tta.compute.precision import native_half_dtype

    half = native_half_dtype(torch.device("cpu"))
    quick = "no half-width arithmetic" if half is None else f"{str(half).removeprefix('torch.')} for --precision fast"
    found = [Finding("CPU", f"{os.cpu_count()} cores, torch uses {torch.get_num_threads()} threads; {quick}")]
    for number in range(torch.cuda.device_count()):
        about = torch.cuda.get_device_properties(number)
        found.append(Finding(f"cuda:{number}", f"{about.name}, {about.total_memory / 2**30:.0f} GiB"))
    if not torch.cuda.is_available():
        found.append(Finding("GPU", "none that torch can use"))
    free = shutil.disk_usage(tempfile.gettempdir()).free / 2**30
    problem = "less than 1 GiB is free for temporary files: free some, or set TMPDIR" if free < 1 else ""
    return [*found, Finding("temporary files", f"{free:.0f} GiB free", problem)]


def _bundles() -> list[Finding]:
    """The bundles that come with the package, and whether their weights are whole."""
    from monai_tta.pipeline.bundle import load_bundle

    found = []
    for name in shipped_bundles():
        weights = sorted(file.name for file in (BUNDLES / name / "models").glob("model*.pt"))
        try:
            for file in weights:
                load_bundle(BUNDLES / name, file)
        except Exception as error:  # whatever is wrong with one bundle, the others are looked at
            found.append(Finding(f"bundle {name}", "cannot be loaded", describe_error(error)))
            continue
        found.append(Finding(f"bundle {name}", f"loads {', '.join(weights)}" if weights else "comes without weights"))
    return found


def _adapted_answer() -> Finding:
    """One image of noise, answered twice: adapted, the same both times, and the source is as before."""
    import torch

    from monai_tta.core.network_copy import network_digest
    from monai_tta.core.record import reasons_on_record_alone
    from monai_tta.methods import GraTa
    from monai_tta.pipeline.bundle import load_bundle

    what = "an adapted answer"
    try:
        source = load_bundle(BUNDLES / TRIED, "model.pt", "cpu")
        before = network_digest(source.network)
        image = torch.randn(1, 1, 34, 34, 34, generator=torch.Generator().manual_seed(0))
        inferer = source.adapt_with(GraTa(), head="softmax")
        with torch.no_grad(), reasons_on_record_alone():
            answers = [inferer(image, source.network) for _ in range(2)]
        unchanged = network_digest(source.network) == before
    except Exception as error:
        return Finding(what, "failed", describe_error(error))
    case = inferer.cases[-1]
    if not case.adapted:
        return Finding(what, "was not adapted", str(case.reason))
    if not torch.equal(*answers) or not unchanged:
        changed = "is not the same twice" if unchanged else "changed the source network"
        return Finding(what, changed, "this must not be: please report it, with this table")
    return Finding(what, f"{TRIED}, GraTa: the same twice, {case.seconds:.1f} s, the source is unchanged")
