"""Orders that were paid: one row an order of a merchant, in the task of the merchant's partition."""

from __future__ import annotations

from streamapp.app import app
from streamapp.records import PaidOrder

#: `<merchant>|<order>` (`agents.payments.rules.order_key`) -> the payment; in the views with `?key=<merchant>`, because
#: a row is where its event is. Changelog: `<app id>-payments-changelog`.
payments = app.Table("payments", value_type=PaidOrder, help="The completed payment of each order at a merchant")
