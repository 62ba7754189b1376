"""Calibration from end to end, on real samples, in real ONNX Runtime."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from tests.calibrate import networks
from tests.calibrate.image_set import write_images
from trtkit.calibrate import AgreementTooLow, CalibrateOptions, CalibrationReport, calibrate
from trtkit.errors import RequestError, WorkFailed
from trtkit.runners.onnxruntime import OnnxRuntimeRunner
from trtkit.sidecar import Preprocess

SMALL = Preprocess(resize=18, crop=16)


def vectors(number: int, width: int = 8) -> NDArray[np.float32]:
    return np.random.default_rng(3).standard_normal((number, width), np.float32)


@pytest.fixture
def data(tmp_path: Path) -> str:
    """150 samples of the classifier."""
    np.save(tmp_path / "data.npy", vectors(150))
    return str(tmp_path / "data.npy")


def run(network: Path, options: CalibrateOptions) -> CalibrationReport:
    return calibrate(network, network.with_suffix(".int8.onnx"), options)


class TestImages:
    @pytest.fixture
    def network(self, tmp_path: Path) -> Path:
        return networks.residual(tmp_path / "n.onnx")

    def options(self, folder: Path, **changes: object) -> CalibrateOptions:
        return replace(CalibrateOptions(str(folder), samples=30, preprocess=SMALL, evaluate=20), **changes)  # type: ignore[arg-type]

    def test_int8_stays_near_fp32_on_images_it_was_not_calibrated_with(
        self, network: Path, tmp_path: Path
    ) -> None:
        report = run(network, self.options(write_images(tmp_path / "images", 50)))
        assert (report.samples, report.evaluated, report.evaluated_on) == (30, 20, "held-out samples")
        assert report.quantised == 9
        (scores,) = report.outputs
        assert scores.cosine > 0.999
        assert scores.sqnr_db > 25
        assert scores.top1_agreement is not None
        assert scores.top1_agreement >= 0.8
        assert scores.max_abs > 0

    def test_a_damaged_image_in_the_middle_is_listed_and_left_out(
        self, network: Path, tmp_path: Path
    ) -> None:
        folder = write_images(tmp_path / "images", 30)
        damaged = folder / "class1" / "0013.jpg"
        damaged.write_bytes(damaged.read_bytes()[:200])
        report = run(network, self.options(folder))
        assert [one.name for one in report.skipped] == ["class1/0013.jpg"]
        assert report.samples == 29

    def test_more_than_a_tenth_of_them_damaged_is_an_error(self, network: Path, tmp_path: Path) -> None:
        folder = write_images(tmp_path / "images", 30)
        for path in sorted(folder.rglob("*.jpg"))[:4]:
            path.write_bytes(b"damaged")
        with pytest.raises(RequestError, match="too many samples") as raised:
            run(network, self.options(folder))
        assert (raised.value.fact("file") or "").startswith("class")

    def test_none_left_is_an_error(self, network: Path, tmp_path: Path) -> None:
        folder = write_images(tmp_path / "images", 3)
        for path in folder.rglob("*.*"):
            path.write_bytes(b"")
        with pytest.raises(RequestError, match="cannot be read"):
            run(network, self.options(folder))

    def test_with_too_few_for_both_it_says_what_int8_was_compared_on(
        self, network: Path, tmp_path: Path
    ) -> None:
        report = run(network, self.options(write_images(tmp_path / "images", 33)))
        assert report.evaluated_on == "the calibration samples"
        assert report.evaluated == 20
        assert any("representative" in note for note in report.notes)

    def test_a_fixed_batch_is_filled_and_only_samples_count(self, network: Path, tmp_path: Path) -> None:
        model = onnx.load(str(network))
        for value in (*model.graph.input, *model.graph.output):
            value.type.tensor_type.shape.dim[0].dim_value = 4
        onnx.save(model, str(network))
        report = run(network, self.options(write_images(tmp_path / "images", 50)))
        assert (report.samples, report.evaluated) == (30, 20)


class TestCache:
    def test_it_saves_the_calibration_samples_from_being_read(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "counting.py").write_text(
            "import numpy as np\nread = []\n"
            "def loader():\n"
            "    for index in range(60):\n"
            "        read.append(index)\n"
            "        yield np.full(8, index / 60, np.float32)\n"
        )
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "path", list(sys.path))
        monkeypatch.delitem(sys.modules, "counting", raising=False)
        network = networks.classifier(tmp_path / "n.onnx")
        options = CalibrateOptions("counting:loader", samples=40, cache=tmp_path / "cache.json")
        first = run(network, options)
        read = sys.modules["counting"].read
        assert (first.cache, first.samples) == ("written", 40)
        ranges = json.loads((tmp_path / "cache.json").read_text())["ranges"]
        assert ranges["x"][1] == pytest.approx(39 / 60)  # no held-out sample is in them
        before = len(read)
        second = run(network, options)
        assert second.cache == "reused"
        assert second.out_sha256 == first.out_sha256
        assert second.outputs == first.outputs
        assert any("loader" in note for note in second.notes)
        assert len(read) - before < before

    @pytest.mark.parametrize("change", ["an image", "how images are prepared", "the seed", "nothing"])
    def test_other_samples_are_calibrated_with_anew(self, change: str, tmp_path: Path) -> None:
        folder = write_images(tmp_path / "images", 20)
        network = networks.residual(tmp_path / "n.onnx")
        options = CalibrateOptions(
            str(folder), samples=20, preprocess=SMALL, cache=tmp_path / "cache.json", evaluate=10
        )
        run(network, options)
        if change == "an image":
            (folder / "class0" / "0000.png").write_bytes((folder / "class1" / "0001.jpg").read_bytes())
        elif change == "how images are prepared":
            options = replace(options, preprocess=Preprocess(resize=18, crop=16, mean=(0, 0, 0)))
        elif change == "the seed":
            options = replace(options, seed=1)
        report = run(network, options)
        assert report.cache == ("reused" if change == "nothing" else "written")
        assert any("other samples" in note for note in report.notes) == (change != "nothing")

    def test_one_of_another_network_is_written_anew_with_a_note(self, data: str, tmp_path: Path) -> None:
        options = CalibrateOptions(data, samples=100, cache=tmp_path / "cache.json")
        run(networks.classifier(tmp_path / "a.onnx"), options)
        report = run(networks.sensitive(tmp_path / "b.onnx"), options)
        assert report.cache == "written"
        assert any("another ONNX file" in note for note in report.notes)
        assert run(tmp_path / "b.onnx", options).cache == "reused"

    def test_it_serves_whatever_is_kept(self, data: str, tmp_path: Path) -> None:
        network = networks.sensitive(tmp_path / "n.onnx")
        options = CalibrateOptions(data, samples=100, cache=tmp_path / "cache.json", keep_fp16=("fragile",))
        run(network, options)
        assert run(network, replace(options, keep_fp16=())).cache == "reused"

    def test_other_weights_beside_the_file_are_another_network(self, data: str, tmp_path: Path) -> None:
        network = networks.classifier(tmp_path / "n.onnx")
        model = onnx.load(str(network))
        onnx.save(model, str(network), save_as_external_data=True, location="w.bin", size_threshold=0)
        options = CalibrateOptions(data, samples=100, cache=tmp_path / "cache.json")
        first = run(network, options)
        weights = bytearray((tmp_path / "w.bin").read_bytes())
        weights[0] ^= 1
        (tmp_path / "w.bin").write_bytes(weights)
        second = run(network, options)
        assert second.cache == "written"
        assert second.onnx_sha256 != first.onnx_sha256


class TestSensitiveLayers:
    def test_the_layer_that_loses_most_is_named_first(self, data: str, tmp_path: Path) -> None:
        report = run(
            networks.sensitive(tmp_path / "n.onnx"), CalibrateOptions(data, samples=100, method="minmax")
        )
        worst, second = report.worst_layers[:2]
        assert worst.node == "fragile"
        assert worst.sqnr_db < second.sqnr_db - 10

    def test_keeping_it_removes_its_pairs_and_gains_accuracy(self, data: str, tmp_path: Path) -> None:
        network = networks.sensitive(tmp_path / "n.onnx")
        options = CalibrateOptions(data, samples=100, method="minmax")
        all_int8 = run(network, options)
        kept = run(network, replace(options, keep_fp16=("fragile",)))
        assert kept.kept == ("fragile",)
        assert kept.quantised == all_int8.quantised - 1
        assert "fragile" not in {layer.node for layer in kept.worst_layers}
        assert kept.outputs[0].sqnr_db > all_int8.outputs[0].sqnr_db + 10
        nodes = {node.name: node for node in onnx.load(kept.out).graph.node}
        assert list(nodes["fragile"].input) == ["h", "w1"]
        assert nodes["sturdy"].input[0] == "h_dequantised"

    def test_all_kept_is_an_error(self, data: str, tmp_path: Path) -> None:
        with pytest.raises(RequestError, match="nothing"):
            run(networks.classifier(tmp_path / "n.onnx"), CalibrateOptions(data, keep_fp16=("*",)))

    def test_a_loss_is_what_the_node_alone_loses(self, data: str, tmp_path: Path) -> None:
        """Computed by hand: inputs and weights rounded to INT8, the product compared."""
        network = networks.classifier(tmp_path / "n.onnx")
        options = CalibrateOptions(data, samples=150, method="minmax", cache=tmp_path / "c.json")
        report = run(network, options)
        ranges = json.loads((tmp_path / "c.json").read_text())["ranges"]
        weights = {
            one.name: onnx.numpy_helper.to_array(one) for one in onnx.load(str(network)).graph.initializer
        }
        order = np.random.default_rng(0).permutation(150)
        taken = vectors(150)[np.sort(order[:100])][:16]  # the first that INT8 is compared on

        def rounded(values: NDArray[Any], peak: Any) -> Any:
            return np.clip(np.rint(values / (peak / 127)), -128, 127) * (peak / 127)

        exact = taken @ weights["w0"]
        peak = np.float32(max(-ranges["x"][0], ranges["x"][1]))
        approximate = rounded(taken, peak) @ rounded(weights["w0"], np.abs(weights["w0"]).max(axis=0))
        expected = 10 * np.log10((exact**2).sum() / ((exact - approximate) ** 2).sum())
        measured = next(layer.sqnr_db for layer in report.worst_layers if layer.node == "matmul0")
        assert measured == pytest.approx(expected, abs=0.01)


class TestAgreement:
    def test_too_little_fails_and_leaves_the_network_beside_the_name_asked_for(
        self, data: str, tmp_path: Path
    ) -> None:
        network = networks.sensitive(tmp_path / "n.onnx")
        out = tmp_path / "n.int8.onnx"
        with pytest.raises(AgreementTooLow) as raised:
            calibrate(network, out, CalibrateOptions(data, samples=100, method="minmax", min_agreement=1))
        assert not out.exists()
        report = raised.value.report
        assert report.agreement is not None
        assert report.agreement < 1
        assert report.out == str(tmp_path / "n.int8.rejected.onnx")
        onnx.checker.check_model(report.out)
        assert "fragile" in (raised.value.fact("next") or "")

    def test_enough_is_written_under_the_name_asked_for(self, data: str, tmp_path: Path) -> None:
        report = run(networks.classifier(tmp_path / "n.onnx"), CalibrateOptions(data, min_agreement=0.5))
        assert report.out == str(tmp_path / "n.int8.onnx")

    def test_it_needs_an_output_with_classes(self, tmp_path: Path) -> None:
        folder = write_images(tmp_path / "images", 2)
        with pytest.raises(RequestError, match="--min-agreement"):
            run(networks.separable(tmp_path / "n.onnx"), CalibrateOptions(str(folder), min_agreement=0.9))


@pytest.mark.parametrize("method", ["entropy", "minmax", "percentile"])
def test_the_same_request_gives_the_same_bytes(method: str, data: str, tmp_path: Path) -> None:
    network = networks.classifier(tmp_path / "n.onnx")
    options = CalibrateOptions(data, samples=100, method=method)  # type: ignore[arg-type]
    first = calibrate(network, tmp_path / "a.onnx", options)
    second = calibrate(network, tmp_path / "b.onnx", options)
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()
    assert first.model_copy(update={"out": ""}) == second.model_copy(update={"out": ""})


def test_the_report_survives_json(data: str, tmp_path: Path) -> None:
    report = run(networks.classifier(tmp_path / "n.onnx"), CalibrateOptions(data, samples=100))
    assert CalibrationReport.model_validate_json(report.model_dump_json()) == report


def test_a_network_that_gives_nan_is_told_with_the_tensor(data: str, tmp_path: Path) -> None:
    network = networks.write_network(
        tmp_path / "n.onnx",
        """n (float[b,8] x) => (float[b,4] y) { r = Sqrt(x)  y = MatMul(r, w) }""",
        w=(8, 4),
    )
    with pytest.raises(WorkFailed) as raised:
        run(network, CalibrateOptions(data))
    assert "'r'" in raised.value.problem


def test_the_network_written_runs_at_any_batch(data: str, tmp_path: Path) -> None:
    report = run(networks.classifier(tmp_path / "n.onnx"), CalibrateOptions(data, samples=100))
    for batch in (1, 3, 7):
        assert OnnxRuntimeRunner(Path(report.out)).run({"x": vectors(batch)})["scores"].shape == (batch, 5)


@pytest.mark.parametrize(
    ("option", "value"), [("samples", 0), ("evaluate", 0), ("percentile", 101), ("min_agreement", 1.5)]
)
def test_an_option_out_of_range_is_told_by_its_name(option: str, value: float) -> None:
    with pytest.raises(RequestError, match="--" + option.replace("_", "-")):
        CalibrateOptions("data", **{option: value})  # type: ignore[arg-type]
