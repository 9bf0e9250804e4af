"""Account balances: one row an account, in the task of the account's partition."""

from __future__ import annotations

from streamapp.app import app
from streamapp.records import AccountBalance

#: account -> the account after its last leg. Changelog: `<app id>-balances-changelog`.
balances = app.Table("balances", value_type=AccountBalance, help="Balance and number of entries of each account")
