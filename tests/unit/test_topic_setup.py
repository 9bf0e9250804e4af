"""What a worker creates: only the service's topics are as its contract says."""

from __future__ import annotations

import pytest

from streamapp.app import App
from streamapp.driver.topic_setup import wanted_by
from streamapp.settings import Settings
from streamapp.topics import CLEANUP


@pytest.mark.parametrize("is_the_service", [True, False])
def test_a_topic_of_an_own_app_may_have_the_name_of_one_of_the_contract(is_the_service: bool) -> None:
    app = App(settings=Settings(id="shop"), autodiscover=False)
    app.is_the_service = is_the_service
    app.topic("payment-totals")
    wanted = wanted_by(app, ["payment"])(1, {"payment": 7})
    assert (wanted["payment-totals"].config.get(CLEANUP) == "compact") is is_the_service
    assert {"payment", "payment-dlt", "payment-totals"} == set(wanted)
    assert wanted["payment"].partitions == 7
