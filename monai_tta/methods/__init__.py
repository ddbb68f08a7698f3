"""One paper per file. What is exported here is what the command line, the docs and the laws know."""

from monai_tta.methods.blend_average import BlendAverage
from monai_tta.methods.careful import Careful
from monai_tta.methods.choose_prompt import ChoosePrompt
from monai_tta.methods.consistency import Consistency
from monai_tta.methods.cotta import CoTTA
from monai_tta.methods.dgtta import DGTTA
from monai_tta.methods.dltta import DLTTA
from monai_tta.methods.dua import DUA
from monai_tta.methods.dyna import DyNA
from monai_tta.methods.eata import EATA
from monai_tta.methods.grata import GraTa
from monai_tta.methods.image_edit import ImageEdit
from monai_tta.methods.intent import InTEnt
from monai_tta.methods.memo import MEMO
from monai_tta.methods.mgg import MGG
from monai_tta.methods.muvi import MuVi
from monai_tta.methods.rehearsal import Rehearsal
from monai_tta.methods.sar import SAR
from monai_tta.methods.sictta import SicTTA
from monai_tta.methods.source import Source
from monai_tta.methods.stag import STAG
from monai_tta.methods.statistics import Statistics
from monai_tta.methods.tent import Tent
from monai_tta.methods.toward_source import TowardSource
from monai_tta.methods.view_average import ViewAverage
from monai_tta.methods.vptta import VPTTA

__all__ = [
    "BlendAverage",
    "Careful",
    "ChoosePrompt",
    "CoTTA",
    "Consistency",
    "DGTTA",
    "DLTTA",
    "DUA",
    "DyNA",
    "EATA",
    "GraTa",
    "ImageEdit",
    "InTEnt",
    "MEMO",
    "MGG",
    "MuVi",
    "Rehearsal",
    "SAR",
    "STAG",
    "SicTTA",
    "Source",
    "Statistics",
    "Tent",
    "TowardSource",
    "VPTTA",
    "ViewAverage",
]
