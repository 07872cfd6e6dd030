"""The part of a handle that has to do with the cache."""

from __future__ import annotations

from nbtasks.facts import Facts
from nbtasks.queue import cache


class Cached(Facts):
    """What a task knows of the cache: whether it came from there, and how to be forgotten by it."""

    remark = ""  # what its card says about that

    @property
    def cached(self) -> bool:
        """True when a submit gave this task instead of running the same call again."""
        return bool(self.remark)

    def invalidate(self) -> bool:
        """Let the cache forget this task: the same call runs again when it is submitted next. The result stays.

        False when the cache did not have it: it was submitted without ``cache``, or another task took its place.
        """
        key = self.spec.cache_key
        return key is not None and cache.forget(self.queue, key, self.id)

    def _remarks(self) -> tuple[str, ...]:
        return (self.remark,) if self.remark else ()
