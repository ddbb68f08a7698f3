"""CT series as scanners write them, made with pydicom: one file a slice, or one file of several frames (Enhanced CT)."""

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, EnhancedCTImageStorage, ExplicitVRLittleEndian

AXIAL = (1, 0, 0, 0, 1, 0)
OBLIQUE = (0.955336, 0.29552, 0, -0.087332, 0.282321, 0.955336)
SHAPE = (12, 22, 26)  # slices, rows, columns
SPACING = (1.5, 2.0)  # from row to row, and from column to column, in mm
STEP = 3.0
START = np.array((-20.0, -30.5, 11.25))
ROOT = "1.2.826.0.1.3680043.2.1125.50"


def hounsfield(seed=0):
    """A block of soft tissue in air, in HU (slices, rows, columns)."""
    pixels = np.full(SHAPE, -950, np.int16)
    pixels[3:9, 5:16, 6:20] = 60
    return pixels + np.random.default_rng(seed).integers(-40, 40, SHAPE, dtype=np.int16)


def position(orientation, k, step=STEP):
    """Where the first pixel of a slice lies, in mm, in LPS."""
    return START + k * step * np.cross(orientation[:3], orientation[3:])


def affine(orientation, step=STEP):
    """From column, row and slice to mm in RAS, ``(4, 4)``; made of the attributes as the standard says."""
    made = np.eye(4)
    made[:3, 0] = np.array(orientation[:3]) * SPACING[1]
    made[:3, 1] = np.array(orientation[3:]) * SPACING[0]
    made[:3, 2] = step * np.cross(orientation[:3], orientation[3:])
    made[:3, 3] = START
    return np.diag([-1.0, -1, 1, 1]) @ made


def write_ct(folder, orientation=AXIAL, number=3, without=(), pixels=None):
    """Write a series whose files are named against the order in which the slices lie.

    Args:
        folder: is made.
        orientation: of rows and columns.
        number: of the series, which tells its identifiers apart, too.
        without: keywords of attributes that are left out.
        pixels: in HU (slices, rows, columns); `hounsfield` where none are given.
    """
    folder.mkdir(parents=True)
    pixels = hounsfield() if pixels is None else pixels
    for k in range(len(pixels)):
        dataset = _dataset(CTImageStorage, f"{ROOT}.{number}.{k + 1}", number, pixels[k])
        dataset.InstanceNumber = k + 1
        dataset.ImagePositionPatient = [f"{value:.6f}" for value in position(orientation, k)]
        dataset.ImageOrientationPatient = [f"{value:.6f}" for value in orientation]
        dataset.PixelSpacing = list(SPACING)
        dataset.SliceThickness = STEP
        dataset.RescaleIntercept = -1024
        dataset.RescaleSlope = 1
        dataset.RescaleType = "HU"
        for keyword in without:
            delattr(dataset, keyword)
        dataset.save_as(folder / f"{len(pixels) - k:03d}.dcm", enforce_file_format=True)
    return folder


def write_enhanced_ct(file, orientation=AXIAL, order=range(SHAPE[0]), slope=lambda k: 1, uid=f"{ROOT}.9.1", change=None):
    """Write an Enhanced CT image: the place of each frame stands in the sequences of its functional groups.

    Args:
        file: its folder is made.
        orientation: of rows and columns.
        order: which slice each frame is, by the number of its place.
        slope: of a slice by its number, for the rescaling to HU.
        uid: of the image.
        change: called with the dataset before it is written.
    """
    pixels = hounsfield()[list(order)]
    dataset = _dataset(EnhancedCTImageStorage, uid, 9, pixels)
    dataset.NumberOfFrames = len(pixels)
    measures, plane, shared = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = list(SPACING), STEP
    plane.ImageOrientationPatient = list(orientation)
    shared.PixelMeasuresSequence = [measures]
    shared.PlaneOrientationSequence = [plane]
    dataset.SharedFunctionalGroupsSequence = [shared]
    dataset.PerFrameFunctionalGroupsSequence = []
    for k in order:
        place, values, frame = Dataset(), Dataset(), Dataset()
        place.ImagePositionPatient = [f"{value:.6f}" for value in position(orientation, k)]
        values.RescaleIntercept, values.RescaleSlope, values.RescaleType = -1024, slope(k), "HU"
        frame.PlanePositionSequence = [place]
        frame.PixelValueTransformationSequence = [values]
        dataset.PerFrameFunctionalGroupsSequence.append(frame)
    if change is not None:
        change(dataset)
    file.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(file, enforce_file_format=True)
    return file


def _dataset(kind, uid, number, pixels):
    """What files of both kinds have in common."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = kind
    meta.MediaStorageSOPInstanceUID = uid
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = Dataset()
    dataset.file_meta = meta
    given = {
        "SOPClassUID": kind,
        "SOPInstanceUID": uid,
        "StudyInstanceUID": f"{ROOT}.1",
        "SeriesInstanceUID": f"{ROOT}.2.{number}",
        "FrameOfReferenceUID": f"{ROOT}.4.{number}",
        "PatientName": "Phantom^Block",
        "PatientID": "P1",
        "PatientBirthDate": "19700101",
        "PatientSex": "O",
        "StudyID": "S1",
        "StudyDate": "20260101",
        "StudyTime": "120000",
        "AccessionNumber": "A1",
        "ReferringPhysicianName": "",
        "PositionReferenceIndicator": "",
        "Manufacturer": "nobody",
        "Modality": "CT",
        "SeriesNumber": number,
        "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": 16,
        "BitsStored": 16,
        "HighBit": 15,
        "PixelRepresentation": 0,
        "Rows": pixels.shape[-2],
        "Columns": pixels.shape[-1],
    }
    for keyword, value in given.items():
        setattr(dataset, keyword, value)
    dataset.PixelData = (pixels + 1024).astype("<u2").tobytes()
    return dataset
