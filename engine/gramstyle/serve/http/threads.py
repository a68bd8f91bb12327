"""Threads of their own for images, so that no other request waits for one that is decoded."""

from collections.abc import Callable
from functools import partial
from typing import TypeVar

from anyio import CapacityLimiter
from anyio.lowlevel import RunVar
from anyio.to_thread import run_sync

T = TypeVar("T")

# How many images are decoded or encoded at once; each takes memory.
_AT_ONCE = 4

_limiter: RunVar[CapacityLimiter] = RunVar("gramstyle_images")


async def with_image(action: Callable[..., T], *arguments: object, **named: object) -> T:
    """Call a function that decodes or encodes an image, in one of the threads for that."""
    try:
        limiter = _limiter.get()
    except LookupError:
        limiter = CapacityLimiter(_AT_ONCE)
        _limiter.set(limiter)
    return await run_sync(partial(action, *arguments, **named), limiter=limiter)
