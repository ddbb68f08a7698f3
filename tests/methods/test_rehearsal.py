"""Rehearsal: what is stored, which parts are compared, what is refused, and that it keeps a stream near its source."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.networks.nets import BasicUNet, DynUNet, SegResNet, UNet
from typer.testing import CliRunner

from monai_tta import VPTTA, AdaptiveInferer, Rehearsal, Source, Tent
from monai_tta.cli.app import app
from monai_tta.core.errors import CannotAdapt
from monai_tta.core.network_copy import network_digest
from monai_tta.core.optimizers import Adam
from monai_tta.core.replay import Replay, UnitWatcher, mixed
from monai_tta.core.selection import Auto, Matching
from monai_tta.core.shadow import Shadow
from monai_tta.core.stored_features import StoredFeatures, StoredFeaturesError, features_file
from monai_tta.evaluation.contenders import CONTINUAL, Contender
from monai_tta.evaluation.streams import StreamPlan, follow_streams
from monai_tta.inference.stream_files import load_stream, save_stream
from monai_tta.pipeline.shipped_bundles import BUNDLES
from monai_tta.preparation.rehearsal import choose_features, choose_samples
from tests.small import FAST, image, network, run, saved_features

BUNDLE = BUNDLES / "hippocampus_mri"


def stored_features(net, n_windows=3):
    return StoredFeatures.load(Path(saved_features(net, n_windows=n_windows)))


def shadow_of(net, select=Auto(), statistics="window"):  # noqa: B008
    return Shadow(net, "softmax", select, statistics)


class TestFile:
    def test_it_holds_the_features_to_the_last_of_8_bits(self, tmp_path):
        pieces = torch.randn(4, 3, 5, 5, generator=torch.Generator().manual_seed(0)) * torch.tensor([1, 100, 0]).view(3, 1, 1)
        StoredFeatures({"a": pieces}, "digest", {"samples": 4}).save(tmp_path / "f.npz")
        again = StoredFeatures.load(tmp_path / "f.npz")
        ranges = pieces.amax((0, 2, 3)) - pieces.amin((0, 2, 3))
        assert ((again.units["a"] - pieces).abs().amax((0, 2, 3)) <= ranges / 255 * 0.51).all()
        assert again.network == "digest" and again.about == {"samples": 4} and not list(tmp_path.glob("*.partial"))

    @pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no archive", "pickle"])
    def test_what_is_no_such_file_is_refused(self, tmp_path, content):
        file = tmp_path / "f.npz"
        if content == "pickle":
            np.savez(file, description=np.array([{"format": 1}], dtype=object))
        else:
            file.write_bytes(content)
        with pytest.raises(StoredFeaturesError, match="cannot be read as stored features"):
            StoredFeatures.load(file)
        with pytest.raises(StoredFeaturesError, match="cannot be read"):
            Rehearsal(file=str(file)).for_checkpoint(tmp_path / "model.pt")

    def test_features_that_are_not_finite_are_not_written(self, tmp_path):
        with pytest.raises(StoredFeaturesError, match="not finite"):
            StoredFeatures({"a": torch.full((2, 1, 3, 3), float("inf"))}, "digest").save(tmp_path / "f.npz")
        assert not list(tmp_path.iterdir())


class TestUnits:
    NETWORKS = {
        "UNet": lambda: UNet(3, 1, 2, (4, 8, 16), (2, 2), num_res_units=1, norm="batch"),
        "UNet without affine": lambda: UNet(3, 1, 2, (4, 8, 16), (2, 2), num_res_units=1),
        "BasicUNet": lambda: BasicUNet(3, 1, 2, (4, 4, 4, 8, 8, 4)),
        "SegResNet": lambda: SegResNet(3, 8, 1, 2),
        "DynUNet": lambda: DynUNet(3, 1, 2, (3, 3, 3), (1, 2, 2), (2, 2), filters=(4, 8, 8)),
    }

    @pytest.mark.parametrize("name", NETWORKS)
    def test_all_that_moves_by_default_is_inside_them_and_none_takes_the_image(self, name):
        net = self.NETWORKS[name]().eval()
        window = image(3, 32)
        watcher = UnitWatcher(net, window)
        pieces = watcher.pieces(window, 0)
        shadow = shadow_of(net)
        assert shadow.names and all(any(n.startswith(f"{unit}.") for unit in watcher.names) for n in shadow.names)
        assert list(pieces) == watcher.names and not any(a != b and b.startswith(f"{a}.") for a in pieces for b in pieces)
        for unit, piece in pieces.items():
            assert piece.shape[1] > 1 and max(piece.shape[2:]) <= 8, unit
        replay = Replay(shadow, net, StoredFeatures(pieces, ""))
        assert float(replay.distance(1).detach()) < 1e-9
        with torch.no_grad():
            for tensor in shadow.moving:
                tensor.mul_(1.1).add_(0.01)
        gradient = torch.autograd.grad(replay.distance(1), shadow.moving)
        assert all(part.abs().sum() > 0 for part in gradient), "each moving tensor is held back"

    def test_the_outermost_part_that_takes_features_is_one(self):
        net = self.NETWORKS["UNet"]().eval()
        assert UnitWatcher(net, image(3, 32)).names == ["model.0.conv.unit0.adn", "model.1", "model.2"]

    def test_pieces_lie_where_the_seed_says_and_hold_what_the_unit_was_given(self):
        net = network()
        window = image(size=16)
        given = net[0](window)
        piece = UnitWatcher(net, window).pieces(window, 3)["1"]
        matches = given.unfold(2, 8, 1).unfold(3, 8, 1).unfold(4, 8, 1)  # (1, 4, 9, 9, 9, 8, 8, 8)
        differences = (matches - piece.view(1, 4, 1, 1, 1, 8, 8, 8)).abs().amax((0, 1, 5, 6, 7))
        assert int((differences < 1e-5).sum()) == 1
        assert not torch.equal(piece, UnitWatcher(net, window).pieces(window, 4)["1"])

    def test_a_unit_that_writes_over_its_input_is_given_the_same_again(self):
        net = torch.nn.Sequential(
            torch.nn.Conv3d(1, 4, 1), torch.nn.Sequential(torch.nn.ReLU(inplace=True), torch.nn.GroupNorm(2, 4))
        )
        window = image(size=8)
        piece = UnitWatcher(net.eval(), window).pieces(window, 0)["1"]
        assert (piece < 0).any() and torch.allclose(piece, net[0](window))

    def test_a_network_that_hides_its_parts_is_refused(self):
        with pytest.raises(CannotAdapt, match="nothing can be rehearsed"):
            UnitWatcher(torch.nn.Conv3d(1, 2, 1), image(size=8))


class TestDistance:
    def test_it_is_the_squared_difference_as_a_fraction_of_the_sources_variance(self):
        net = network()
        shadow = shadow_of(net, Matching(r"^6\.bias"))
        stored = stored_features(net)
        replay = Replay(shadow, net, stored)
        with torch.no_grad():
            shadow.moving[0].add_(torch.tensor([0.5, 0.0, 0.0]))
        wanted = net[6](stored.units["6"]).detach()
        assert float(replay.distance(None).detach()) == pytest.approx(0.25 / 3 / float(wanted.var(correction=0)), rel=1e-5)

    def test_the_sources_features_are_normalised_by_the_sources_statistics(self):
        net = network()
        with torch.no_grad():
            net[1].running_mean.fill_(3.0)
        shadow = shadow_of(net, Matching(r"^1\.weight"))
        stored = stored_features(net)
        replay = Replay(shadow, net, stored)
        with torch.no_grad():
            shadow.moving[0].mul_(2)
        normalised = net[1](stored.units["1"]).detach()  # scale 1 and shift 0: twice the scale adds as much again
        expected = float(normalised.square().mean() / normalised.var(correction=0))
        assert float(replay.distance(None).detach()) == pytest.approx(expected, rel=1e-4)

    def test_pairs_are_mixed_with_shares_of_their_own(self):
        pieces = torch.eye(6).view(6, 6, 1, 1)
        one = mixed(pieces, 1)
        assert torch.equal(one, mixed(pieces, 1)) and not torch.equal(one, mixed(pieces, 2))
        torch.testing.assert_close(one.sum(1), torch.ones(6, 1, 1))
        shares = [float(one[n, n, 0, 0]) for n in range(6)]
        assert all(0 <= s <= 1 for s in shares) and len(set(shares)) > 3


class TestMethod:
    def test_another_networks_features_are_refused_without_a_path(self, tmp_path):
        other = network()
        with torch.no_grad():
            other[6].bias.add_(1)
        with pytest.warns(UserWarning, match="another network"):
            _, case = run(network(), Rehearsal(inner=Tent(), file=saved_features(other)))
        assert "holds features of another network" in case.reason and "/" not in case.reason and "/" not in case.method

    def test_no_file_is_refused_in_words(self):
        for method in (Rehearsal(), Rehearsal(file="nowhere.npz")):
            with pytest.warns(UserWarning, match="monai-tta rehearsal BUNDLE"):
                _, case = run(network(), method)
            assert not case.adapted

    @pytest.mark.parametrize("inner", [VPTTA(), Tent(select=Matching(r"^0\."))])
    def test_what_cannot_be_rehearsed_is_refused(self, inner):
        net = network()
        with pytest.warns(UserWarning, match="nothing to rehearse"):
            _, case = run(net, Rehearsal(inner=inner, file=saved_features(net)))
        assert not case.adapted

    def test_around_a_method_that_never_adapts_it_is_that_method(self):
        net = network()
        answer, case = run(net, Rehearsal(inner=Source(), file=saved_features(net)))
        assert torch.equal(answer, run(net, Source())[0]) and case.steps == ()

    def test_a_weight_below_zero_is_refused(self):
        with pytest.raises(ValueError, match="0 or more"):
            Rehearsal(weight=-1.0)

    def test_the_file_beside_a_checkpoint_is_found_and_named(self, tmp_path):
        weights = tmp_path / "model_instance.pt"
        assert Rehearsal().for_checkpoint(weights) == Rehearsal() and Rehearsal().files == ()
        stored_features(network()).save(features_file(weights))
        found = Rehearsal().for_checkpoint(weights)
        assert found.file == str(tmp_path / "rehearsal_model_instance.npz") and found.files == (features_file(weights),)
        assert "file='rehearsal_model_instance.npz'" in found.record_name and str(tmp_path) not in found.record_name
        assert found.is_continual

    def test_a_stream_with_rehearsal_stays_nearer_to_what_the_source_does(self):
        net = network()
        file = saved_features(net)
        inner = Tent(optimizer=FAST)
        distances = {}
        for weight in (0.0, 1.0):
            inferer = AdaptiveInferer(
                8, 2, 0.5, method=Rehearsal(inner=inner, file=file, weight=weight), head="softmax", reset="never"
            )
            for seed in range(6):
                inferer(image(seed=seed), net)
            stream = _shadow(inferer, net)
            distances[weight] = float(Replay(stream, net, StoredFeatures.load(Path(file))).distance(None).detach())
        assert distances[1.0] < 0.5 * distances[0.0]

    def test_what_is_rehearsed_is_what_moves(self):
        """The replayed units hold the shadow's own tensors, so that a step changes both."""
        net = network()
        shadow = Rehearsal(inner=Tent(), file=saved_features(net)).begin(net, "softmax")
        (replay,) = shadow.kept.values()
        held = {id(p) for student, _, _ in replay.units for p in student.parameters()}
        assert {id(p) for p in shadow.moving} <= held
        assert not {id(p) for p in shadow.moving} & {id(p) for _, teacher, _ in replay.units for p in teacher.parameters()}


def _shadow(inferer, net):
    from monai_tta.inference.streams import streams

    return streams[inferer].shadows[net][1]


class TestChoice:
    def test_the_windows_nearest_to_each_centre_are_kept(self):
        means = torch.cat([torch.linspace(-1, 1, 121).view(-1, 1), 50 + torch.linspace(-1, 1, 80).view(-1, 1)])
        chosen, n_clusters = choose_samples(means)
        assert n_clusters == 2 and len(chosen) == 10  # int(0.01 * 201) clusters, int(0.05 * 201) // 2 of each
        assert chosen == [58, 59, 60, 61, 62, *chosen[5:]] and all(157 <= n <= 164 for n in chosen[5:])

    def test_a_few_windows_leave_one(self):
        assert choose_samples(torch.tensor([[0.0], [1.0], [5.0]])) == ([1], 1)

    def test_features_are_those_of_the_chosen_windows(self):
        net = network()
        windows = image(size=8, n=3).split(1)
        stored = choose_features(net, windows, seed=5)
        means = torch.stack([UnitWatcher(net, windows[0]).means(window) for window in windows])
        ((number,), _) = choose_samples(means, 5)
        piece = UnitWatcher(net, windows[0]).pieces(windows[number], 5 + number)["4"]
        torch.testing.assert_close(stored.units["4"], piece)
        assert stored.network == network_digest(net) and stored.about["windows"] == 3

    def test_windows_of_several_sizes_and_none_are_refused(self):
        with pytest.raises(ValueError, match="no window"):
            choose_features(network(), [])


def test_the_command_makes_a_file_that_run_finds(phantom_set, bundle_copy, tmp_path):
    for file in (bundle_copy / "models").glob("rehearsal*"):
        file.unlink()
    invoke = CliRunner().invoke
    words = ["rehearsal", str(bundle_copy), "--dataset-dir", str(phantom_set), "--set", "split=source_train", "--json"]
    done = invoke(app, words)
    assert done.exit_code == 0, done.output
    file = bundle_copy / "models" / "rehearsal.npz"
    found = json.loads(done.stdout)
    assert found["written"] == str(file) and found["found"]["bytes"] == file.stat().st_size < 100_000
    assert found["found"]["windows"] == 2 and found["found"]["samples"] == 1
    content = b"".join(value.tobytes() for value in np.load(file, allow_pickle=False).values())
    assert b"phantoms" not in content and b".nii" not in content
    words = [
        "run",
        str(bundle_copy),
        str(phantom_set / "images" / "c0.nii.gz"),
        "--method",
        "rehearsal",
        "--out",
        str(tmp_path / "o"),
    ]
    done = invoke(app, words)
    assert done.exit_code == 0, done.output
    (record,) = json.loads((tmp_path / "o" / "records.json").read_text(encoding="utf-8"))["cases"]
    assert "file='rehearsal.npz'" in record["method"] and record["reason"] is None and str(tmp_path) not in json.dumps(record)


def test_the_shipped_files_fit_their_checkpoints_and_are_small():
    for name in ("model.pt", "model_instance.pt"):
        file = features_file(BUNDLE / "models" / name)
        stored = StoredFeatures.load(file)
        assert file.stat().st_size < 200_000 and stored.about["samples"] == 6 and len(stored.units) == 3


def test_a_stream_rehearses_with_the_file_beside_the_checkpoint(phantom_set, bundle_copy):
    contender = Contender("r", Rehearsal(inner=Tent(optimizer=Adam(lr=1e-3))), CONTINUAL)
    plan = StreamPlan(domains=("source_val", "target"), orders=(0,), rounds=1, limit=1)
    rows = follow_streams(bundle_copy, phantom_set, "model.pt", contender, plan)
    assert all(row.reason is None and row.weight_distance > 0 for row in rows)
    features_file(bundle_copy / "models" / "model.pt").unlink()
    rows = follow_streams(bundle_copy, phantom_set, "model.pt", contender, plan)
    assert all("none beside it: make them by `monai-tta rehearsal" in row.reason for row in rows)


def test_a_method_around_it_keeps_its_own_features_apart():
    net = network()
    inner = Rehearsal(inner=Tent(), file=saved_features(net))
    both = Rehearsal(inner=inner, file=inner.file, weight=2.0)
    shadow = both.begin(net, "softmax")
    assert set(shadow.kept) == {inner, both}


def test_a_saved_stream_goes_on_with_rehearsal(tmp_path):
    net = network()
    method = Rehearsal(inner=Tent(optimizer=FAST), file=saved_features(net))
    first, second = (AdaptiveInferer(8, 2, 0.5, method=method, head="softmax", reset="never") for _ in range(2))
    first(image(seed=1), net)
    save_stream(first, net, tmp_path / "stream.pt")
    load_stream(second, net, tmp_path / "stream.pt")
    torch.testing.assert_close(second(image(seed=2), net), first(image(seed=2), net))
