"""What this process measured of itself, told apart from what others measured of themselves."""

import socket
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from django.http import HttpRequest
from django_prometheus.middleware import Metrics, PrometheusAfterMiddleware
from prometheus_client import REGISTRY, Gauge, disable_created_metrics, generate_latest
from prometheus_client.metrics_core import Metric

from apps.core import pace

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
OTHER = "other"

# Without a gauge beside every counter that says when it was begun, which nobody asks.
disable_created_metrics()  # type: ignore[no-untyped-call]  # untyped library


_factor = Gauge("web_pace_factor", "Times slower than set that services are asked to come.")
_factor.set_function(lambda: pace.current.factor)
_late = Gauge("web_event_loop_late_seconds", "Mean lateness of the event loop, last second.")
_late.set_function(lambda: pace.current.late_seconds)


class RequestMetrics(PrometheusAfterMiddleware):  # type: ignore[misc]  # untyped library
    """Counts requests by view, method and status; a method made up by a client is no label."""

    def process_request(self, request: HttpRequest) -> None:
        with suppress(ValueError):  # a Content-Length that is no number; Django refuses it
            super().process_request(request)

    def label_metric(
        self, metric: Any, request: HttpRequest, response: Any = None, **labels: Any
    ) -> Any:
        if labels.get("method", "GET") not in METHODS:
            labels["method"] = OTHER
        return super().label_metric(metric, request, response, **labels)


def process_name(request: HttpRequest) -> str:
    """Host and port this process listens on: every web process its own, also after a restart."""
    return f"{socket.gethostname()}:{request.META['SERVER_PORT']}"


class Labelled:
    """What prometheus_client's registry holds, every sample labelled with the process."""

    def __init__(self, process: str) -> None:
        self._process = process

    def collect(self) -> Iterator[Metric]:
        for family in REGISTRY.collect():
            if "_before_middlewares" in family.name or "including_middlewares" in family.name:
                continue  # of a middleware that is not installed: always 0
            family.samples = [
                sample._replace(labels={**sample.labels, "process": self._process})
                for sample in family.samples
            ]
            yield family


def exposition(process: str) -> bytes:
    """Everything this process measured of itself, in Prometheus' text format."""
    return generate_latest(Labelled(process))


class Observed:
    """Counts the requests that never come to Django's middlewares, under the same names.

    Label sets are looked up once: the library takes a lock for each.
    """

    def __init__(self) -> None:
        self._metrics = Metrics.get_instance()
        self._known: dict[tuple[str, str, int], tuple[Any, Any, Any]] = {}

    def __call__(self, view: str, method: str, status: int, seconds: float) -> None:
        key = (view, method, status)
        if key not in self._known:
            metrics = self._metrics
            self._known[key] = (
                metrics.requests_by_view_transport_method.labels(
                    view=view, transport="http", method=method
                ),
                metrics.responses_by_status_view_method.labels(
                    status=str(status), view=view, method=method
                ),
                metrics.requests_latency_by_view_method.labels(view=view, method=method),
            )
        requests, responses, latency = self._known[key]
        requests.inc()
        responses.inc()
        latency.observe(seconds)
