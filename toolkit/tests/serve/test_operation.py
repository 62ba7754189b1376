"""What who operates a service asks it."""

from __future__ import annotations

from tests.serve.running import Running, ask


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
