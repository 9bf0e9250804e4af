"""Payments that were completed: one row an order of a merchant, in the task of the merchant's partition."""

from __future__ import annotations

from streamapp.app import app

#: [merchant, order] -> event id of the payment that was completed. A list, so that no two pairs of names look alike.
payments = app.Table("payments", help="The completed payment of each order at a merchant")
