"""The metrics' text, read back by Prometheus' own parser."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from streamapp.app import App
from streamapp.metrics import Family, Histogram, Sample, exposition
from streamapp.settings import Settings
from streamapp.web.figures import families

_texts = st.text(st.characters(exclude_categories=["Cs"]))


@given(_texts, st.floats(allow_nan=False, allow_infinity=False))
def test_labels_and_values_come_out_as_they_went_in(text: str, value: float) -> None:
    page = exposition([Family("thing", "gauge", "A thing", [Sample(value, {"topic": text, "partition": "0"})])])
    (family,) = text_string_to_metric_families(page)
    (sample,) = family.samples
    assert (sample.name, sample.labels, sample.value) == ("thing", {"topic": text, "partition": "0"}, value)


def test_a_histogram_counts_up_to_each_bound() -> None:
    histogram = Histogram((0.1, 1.0))
    for value in (0.05, 0.1, 0.5, 7.0):
        histogram.observe(value)
    (family,) = text_string_to_metric_families(
        exposition([Family("took_seconds", "histogram", "How long\nit took \\ all", histogram.samples())])
    )
    assert family.type == "histogram"
    assert family.documentation == "How long\nit took \\ all"
    buckets = {s.labels["le"]: s.value for s in family.samples if s.name == "took_seconds_bucket"}
    assert buckets == {"0.1": 2, "1": 3, "+Inf": 4}
    rest = {s.name: s.value for s in family.samples if not s.labels}
    assert rest == {"took_seconds_sum": 7.65, "took_seconds_count": 4}


def test_a_worker_that_is_not_connected_has_figures_too() -> None:
    app = App(settings=Settings(id="shop"), autodiscover=False)
    found = {it.name: it for it in text_string_to_metric_families(exposition(families(app)))}
    assert found["streamapp_ready"].samples[0].value == 0
    assert found["streamapp_info"].samples[0].labels["id"] == "shop"
    for family in found.values():
        assert family.name.startswith(("streamapp_", "process_"))
        assert family.documentation
