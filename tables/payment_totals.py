"""What completed payments add up to: a row a merchant and window, upserted to `payment-totals`."""

from __future__ import annotations

from streamapp.app import app
from streamapp.records import Payment, PaymentTotal
from streamapp.windows import Count, Sum

#: Windows of `WINDOW_SIZE`, one after the other. Changelog: `<app id>-payment_totals-changelog`.
payment_totals = (
    app.Table("payment_totals", help="Completed payments of each merchant, by window")
    .tumbling(app.settings.window_size, grace=app.settings.window_grace, topic=app.topic("payment", value_type=Payment))
    .aggregate(count=Count(), amount=Sum("amount"))
    .upsert_to(app.topic("payment-totals", value_type=PaymentTotal))
)
