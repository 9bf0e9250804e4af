"""The tables of an app by name."""

from __future__ import annotations

import asyncio
import logging

from faust.tables.manager import TableManager as FaustTableManager


class TableManager(FaustTableManager):
    """Only the registry of Faust's: opening and restoring tables is the worker's (`driver/assignment.py`)."""

    logger = logging.getLogger("faust.tables")

    async def on_start(self) -> None:
        # One turn, in which agents begin: those that call inbox() bring a table with them.
        await asyncio.sleep(0)
        self.app.add_intents()
        self._tables_finalized.set()
        self._tables_registered.set()

    async def on_stop(self) -> None:
        """Nothing is open here."""

    @property
    def changelog_topics(self) -> set[str]:
        """Changelogs are not part of the group's subscription."""
        return set()
