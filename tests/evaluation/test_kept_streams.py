"""The rows of streams are kept contender by contender, with the settings that they have in common."""

import json

import pytest

from monai_tta.evaluation.kept_streams import ROWS, SETTINGS, KeptStreams, opened, stream_settings
from monai_tta.evaluation.streams import StreamPlan
from monai_tta.quality.predictor_files import predictor_file
from monai_tta.reporting.stream_rows import StreamRow


def settings(**choices):
    return {"bundle": "b", "streams": {"limit": 1}, "contenders": {"Tent": "Tent()"}} | choices


def row(contender, position=0):
    return StreamRow(contender, "apart", 0, position, 1, "target", 0, (0.5, 0.25))


def test_contenders_that_are_done_are_there_again(tmp_path):
    kept = KeptStreams(tmp_path / "o", settings())
    assert kept.rows == [] and kept.done == set()
    kept.add([row("Tent", 0), row("Tent", 1)])
    kept.add([row("GraTa")])
    again = KeptStreams(tmp_path / "o", settings(contenders={"GraTa": "GraTa()"}))
    assert again.rows == kept.rows and again.done == {"Tent", "GraTa"}
    assert json.loads((tmp_path / "o" / SETTINGS).read_text())["contenders"] == {"Tent": "Tent()", "GraTa": "GraTa()"}
    assert not list((tmp_path / "o").glob("*.partial"))


@pytest.mark.parametrize(
    ("other", "named"),
    [
        ({"bundle": "c"}, "bundle"),
        ({"streams": {"limit": 2}}, "streams"),
        ({"device": "cuda:0"}, "device"),
        ({"contenders": {"Tent": "Tent(lr=1)"}}, "contenders"),
    ],
)
def test_other_settings_are_refused_and_nothing_is_lost(other, named, tmp_path):
    KeptStreams(tmp_path, settings()).add([row("Tent")])
    before = [(tmp_path / name).read_bytes() for name in (ROWS, SETTINGS)]
    with pytest.raises(ValueError, match=f"has rows of other settings: {named} differ"):
        KeptStreams(tmp_path, settings(**other))
    assert [(tmp_path / name).read_bytes() for name in (ROWS, SETTINGS)] == before


@pytest.mark.parametrize("left", [None, "{", "[]", "{}", '{"contenders": 3}'])
def test_rows_without_settings_are_refused(left, tmp_path):
    KeptStreams(tmp_path, settings()).add([row("Tent")])
    (tmp_path / SETTINGS).unlink()
    if left is not None:
        (tmp_path / SETTINGS).write_text(left)
    with pytest.raises(ValueError, match="no settings.json that says of what they are"):
        KeptStreams(tmp_path, settings())


def test_two_processes_do_not_replace_each_others_rows(tmp_path):
    with opened(tmp_path / "o", settings()) as kept:
        with pytest.raises(BlockingIOError, match="another `monai-tta stream` writes into"), opened(tmp_path / "o", settings()):
            pass
        kept.add([row("Tent")])
    with opened(tmp_path / "o", settings(contenders={"GraTa": "GraTa()"})) as kept:
        kept.add([row("GraTa")])
    assert KeptStreams(tmp_path / "o", settings()).done == {"Tent", "GraTa"}
    assert {file.name for file in (tmp_path / "o").iterdir()} == {ROWS, SETTINGS}


def test_a_damaged_gain_predictor_does_not_stop_contenders_that_need_none(phantom_set, bundle_copy):
    predictor_file(bundle_copy / "models" / "model.pt").write_bytes(b"half")
    plan = StreamPlan(("source_val", "target"), (0,), 1, 1)
    found = stream_settings(bundle_copy, phantom_set, plan, [], "model.pt", None)
    assert set(found["domains"]) == {"source_val", "target"}


def test_a_damaged_row_is_told(tmp_path):
    KeptStreams(tmp_path, settings()).add([row("Tent")])
    with (tmp_path / ROWS).open("a") as file:
        file.write("half a r")
    with pytest.raises(ValueError, match="not the row of a stream"):
        KeptStreams(tmp_path, settings())
