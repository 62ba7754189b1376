"""What who operates a service asks it."""

from __future__ import annotations

import pynvml
import pytest

from tests.serve.running import Running, ask
from trtkit.devices import Gpu
from trtkit.serve import metrics
from trtkit.serve.metrics import Metrics


def test_health_ready_and_metrics(twice: Running) -> None:
    assert twice.client.get("/health").json() == {"live": True}
    assert twice.client.get("/ready").json() == {"ready": True, "name": "twice"}
    before = twice.metrics()
    twice.client.post(twice.infer, json=ask([[1.0], [2.0]]))
    twice.client.post(twice.infer, content=b"?")
    after = twice.metrics()
    grown = {name: value - before[name] for name, value in after.items() if value != before.get(name, 0)}
    assert grown['trtkit_requests_total{outcome="ok"}'] == 1
    assert grown['trtkit_requests_total{outcome="bad-request"}'] == 1
    assert (grown["trtkit_batch_rows_sum"], grown["trtkit_batch_rows_count"]) == (2, 1)
    assert grown["trtkit_inference_seconds_sum"] > 0
    assert grown['trtkit_request_seconds_count{outcome="ok"}'] == 1
    assert (after["trtkit_queue_depth"], after["trtkit_in_flight"]) == (0, 0)


def test_the_documentation_shows_every_address(twice: Running) -> None:
    paths = twice.client.get("/openapi.json").json()["paths"]
    assert {"/infer", "/v2/models/{name}/infer", "/health", "/ready", "/metrics", "/v2"} <= paths.keys()
    assert "image/*" in paths["/infer"]["post"]["requestBody"]["content"]
    assert twice.client.get("/docs").status_code == 200


def test_the_wrong_method_is_told(twice: Running) -> None:
    answer = twice.client.get("/infer")
    assert answer.status_code == 405
    assert answer.json()["error"] == "Method Not Allowed"


def test_nothing_that_clients_send_becomes_a_metric_and_scrapes_leave_nothing_behind(twice: Running) -> None:
    before = twice.metrics()
    for name in range(30):
        twice.client.post(f"/v2/models/m{name}/versions/{name}/infer", json=ask([[1.0]], name=f"x{name}"))
        twice.client.post(twice.infer, json=ask([[1.0]], name=f"x{name}"))
        twice.client.post(f"/infer?shape={name}&output=o{name}", headers={"content-type": f"kind/{name}"})
        twice.client.get(f"/nowhere/{name}")
    assert twice.metrics().keys() == before.keys()
    for _ in range(100):
        twice.metrics()
    memory = twice.memory()
    for _ in range(500):
        twice.metrics()
    assert twice.memory() - memory < 1 << 20


def test_when_a_gpu_is_lost_everything_else_is_still_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def lost() -> tuple[Gpu, ...]:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_GPU_IS_LOST)

    monkeypatch.setattr(metrics, "gpus", lost)
    told = Metrics({}).text().decode()
    assert "trtkit_gpu_utilisation_ratio{" not in told
    assert 'trtkit_requests_total{outcome="ok"} 0.0' in told
