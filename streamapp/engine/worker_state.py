"""Where this worker keeps its tables between two runs."""

from __future__ import annotations

from streamapp.errors import ConfigurationError
from streamapp.settings import Settings
from streamapp.state import DirectoryInUse, MemoryState, StateDirectory

State = StateDirectory | MemoryState
#: How many workers without INSTANCE may share one DATADIR.
_DYNAMIC_DIRECTORIES = 64


def opened_state(settings: Settings) -> State:
    """The state directory of this worker; without INSTANCE the first one that nobody holds."""
    if settings.store == "memory":
        return MemoryState()
    first = settings.state_directory
    if settings.instance:
        return StateDirectory(first, settings.id)
    for number in range(1, _DYNAMIC_DIRECTORIES + 1):
        try:
            return StateDirectory(first if number == 1 else first.with_name(f"{first.name}-{number}"), settings.id)
        except DirectoryInUse:
            continue
    raise ConfigurationError(
        f"{_DYNAMIC_DIRECTORIES} workers without INSTANCE use {first.parent} already. Give this one an INSTANCE."
    )
