"""What clicks cost: a row an advertiser and window, upserted to `ad-spend`."""

from __future__ import annotations

from streamapp.app import app
from streamapp.records import AdClick, AdSpend
from streamapp.windows import Count, Sum

#: Every step begins a window that is five steps long: a click is in five of them.
_STEP_S = app.settings.window_size

#: A busy advertiser has many clicks a second, and nobody reads five upserts of each: one a second of event time is
#: sent, and the final. Changelog: `<app id>-ad_spend-changelog`.
ad_spend = (
    app.Table("ad_spend", help="What the clicks of each advertiser cost, by window")
    .hopping(5 * _STEP_S, _STEP_S, grace=app.settings.window_grace, topic=app.topic("ad-click", value_type=AdClick))
    .aggregate(count=Count(), amount=Sum("cpc"))
    .upsert_to(app.topic("ad-spend", value_type=AdSpend), emit_every=1)
)
