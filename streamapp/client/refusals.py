"""What Kafka refuses a worker, in sentences: a seat in the group, a topic that is missing, a right."""

from __future__ import annotations

import aiokafka.errors

_KEPT = "Committed work is safe. Uncommitted events will run again."
_RIGHTS = "docs/permissions.md has the whole list."


def explained(group: str, exc: BaseException) -> str:
    """What a member that ended with this error says: what happened, what was kept, what to do."""
    name = type(exc).__name__
    others = (
        f"{_KEPT} Stop them (kafka-consumer-groups.sh --describe --members --group {group} shows who they are), or "
        "give one of the two another group: STREAMAPP_ID is this worker's."
    )
    if isinstance(exc, aiokafka.errors.InconsistentGroupProtocolError):
        return f"Group {group} has members of another kind, which assign partitions in another way ({name}). {others}"
    if aiokafka.errors.UnknownError.__name__ in str(exc):
        return (
            f"Group {group} did not take this worker, with an error that the client has no name for. So answers a "
            f"group whose members speak another protocol: group.protocol=consumer (KIP-848), or share. {others}"
        )
    if isinstance(exc, aiokafka.errors.GroupAuthorizationFailedError):
        return f"This user may not be a member of group {group} ({name}). {_KEPT} Allow it Read on the group; {_RIGHTS}"
    if isinstance(exc, aiokafka.errors.TopicAuthorizationFailedError):
        return may_not_read(exc)
    return (
        f"The consumer of group {group} ended: {name}: {exc}. {_KEPT} Fix the error above and start the worker again."
    )


def may_not_read(exc: BaseException) -> str:
    """A topic may not be read; the error holds which one."""
    held = exc.args[0] if exc.args else ""
    topics = ", ".join(sorted(map(str, held))) if isinstance(held, set | frozenset | list) else str(held)
    return f"This user may not read {topics} ({type(exc).__name__}). {_KEPT} Allow it Read on the topic; {_RIGHTS}"


def not_created(reason: str, error: type[BaseException]) -> str:
    """Why a topic that the worker needs could not be created; `reason` begins with its name."""
    if error is aiokafka.errors.TopicAuthorizationFailedError:
        return (
            f"Topic {reason.partition(':')[0]} is not there, or this user may not see it, and may not create it. "
            "Nothing was consumed. Allow Create on it, or have it created, and allow what docs/permissions.md lists."
        )
    return (
        f"Kafka refused to create a topic ({error.__name__}), {reason}. Nothing was consumed. Fix the reason, or "
        "create the topic yourself."
    )
