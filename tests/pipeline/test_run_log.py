"""What counts as the same image when a stopped run resumes: all of its content."""

import os

import numpy as np
import pytest
import SimpleITK as sitk

from monai_tta.core.record import Case
from monai_tta.pipeline.content_hashes import content_id
from monai_tta.pipeline.journal import UnfinishedRun
from monai_tta.pipeline.run_log import RunLog
from monai_tta.pipeline.run_starts import in_order
from tests.attack.arena import save
from tests.shard_folder import ShardFolder

CASE = Case(number=0, network="", method="", head="", learn="", reset="", seed=0, shape=())


def flip(path, place):
    """Change one bit, and nothing else that a folder's listing shows."""
    was = path.stat()
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(bytes(data))
    os.utime(path, ns=(was.st_atime_ns, was.st_mtime_ns))


def test_a_bit_anywhere_is_another_image(tmp_path):
    image = save(tmp_path / "a.nii", np.zeros((80, 80, 80), np.float32))
    size = image.stat().st_size
    found = {content_id(image)}
    for place in (size // 2, size - 1, 70000, 400):
        flip(image, place)
        found.add(content_id(image))
    assert len(found) == 5


def test_a_bit_in_the_middle_of_a_slice_or_a_file_more_is_another_image(tmp_path):
    for name in "ab":
        (tmp_path / name).write_bytes(bytes(20000))
    found = {content_id(tmp_path)}
    flip(tmp_path / "b", 15000)
    found.add(content_id(tmp_path))
    (tmp_path / "c").write_bytes(b"1")
    assert len({*found, content_id(tmp_path)}) == 3


def test_a_copy_under_another_name_is_the_same_image(tmp_path):
    image = save(tmp_path / "a.nii", np.zeros((8, 8, 8), np.float32))
    (tmp_path / "b.nii").write_bytes(image.read_bytes())
    assert content_id(image) == content_id(tmp_path / "b.nii")
    for folder, names in (("series", "12"), ("copy", "ab")):
        (tmp_path / folder).mkdir()
        for number, name in enumerate(names):
            (tmp_path / folder / name).write_bytes(bytes([number]) * 100)
    assert content_id(tmp_path / "series") == content_id(tmp_path / "copy")


def test_voxels_beside_their_header_belong_to_the_image(tmp_path):
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((40, 40, 40), np.int16)), str(tmp_path / "scan.mhd"))
    other = save(tmp_path / "other.nii", np.zeros((2, 2, 2), np.float32))
    before, beside = content_id(tmp_path / "scan.mhd"), content_id(other)
    flip(tmp_path / "scan.raw", 64000)
    assert content_id(tmp_path / "scan.mhd") != before and content_id(other) == beside
    (tmp_path / "scan.raw").rename(tmp_path / "voxels.bin")
    header = (tmp_path / "scan.mhd").read_text(encoding="utf-8").replace("scan.raw", "voxels.bin")
    (tmp_path / "scan.mhd").write_text(header, encoding="utf-8")
    before = content_id(tmp_path / "scan.mhd")
    flip(tmp_path / "voxels.bin", 64000)
    assert content_id(tmp_path / "scan.mhd") != before


def test_an_image_that_changes_while_it_is_segmented_is_done_again(tmp_path):
    image = save(tmp_path / "a.nii", np.zeros((8, 8, 8), np.float32))
    log = RunLog(tmp_path, [image], {})
    log.open()
    content = content_id(image)
    flip(image, 400)
    log.done(0, CASE, (image,), content)
    again = RunLog(tmp_path, [image], {})
    again.open()
    assert again.order() == [0]
    flip(image, 400)
    same = RunLog(tmp_path, [image], {})
    same.open()
    assert same.order() == []


def test_images_of_one_file_name_and_content_are_told_apart_by_their_names(tmp_path):
    images = []
    for folder in ("p1", "p2"):
        (tmp_path / folder).mkdir()
        images.append(save(tmp_path / folder / "ct.nii", np.zeros((2, 2, 2), np.float32)))
    log = RunLog(tmp_path, images, {}, names=["p1_ct", "p2_ct"])
    log.open()
    log.done(1, CASE, (images[0],))
    again = RunLog(tmp_path, images[::-1], {}, names=["p2_ct", "p1_ct"])
    again.open()
    assert again.cases == {0: CASE}


def starts(monkeypatch, *times):
    left = iter(times)
    monkeypatch.setattr("monai_tta.pipeline.run_log.local_time", lambda: next(left))


SUMMER, WINTER, LATER = "2026-10-25T02:50:00+02:00", "2026-10-25T02:10:00+01:00", "2026-10-25T02:30:00+01:00"


def test_a_resumed_run_knows_all_its_starts_in_their_order(tmp_path, monkeypatch):
    starts(monkeypatch, SUMMER, WINTER, LATER, LATER)
    image = save(tmp_path / "a.nii", np.zeros((8, 8, 8), np.float32))
    for expected in ([SUMMER], [SUMMER, WINTER], [SUMMER, WINTER, LATER]):
        log = RunLog(tmp_path, [image], {"seed": 0})
        log.open()
        assert in_order(log.starts) == expected, "the clock was set back between the first two"
    other = RunLog(tmp_path, [image], {"seed": 1})  # nothing was done yet, so another run may take the folder
    other.open()
    assert other.starts == [LATER]


def test_shards_put_their_starts_together(tmp_path, monkeypatch):
    starts(monkeypatch, WINTER, SUMMER, LATER)
    folder = ShardFolder(tmp_path)
    shards = [folder.log(1, 2), folder.log(2, 2)]
    folder.do(shards[1], shards[1].order()[:2])
    folder.finish(shards[0])
    folder.finish(folder.log(2, 2))
    assert folder.document()["run"]["starts"] == [SUMMER, WINTER, LATER]


@pytest.mark.parametrize("wrong", [["yesterday"], 3])
def test_a_journal_with_a_start_that_is_no_time_is_damaged(tmp_path, monkeypatch, wrong):
    log = RunLog(tmp_path, [], {})
    log.open()
    log.journal.append({"starts": wrong})
    with pytest.raises(UnfinishedRun, match="damaged"):
        RunLog(tmp_path, [], {}).open()
