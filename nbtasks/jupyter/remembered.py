"""``%%background --cache``: a cell that was run before with the same code and inputs, in any kernel, is not run again."""

from __future__ import annotations

import math

from nbtasks import cache_keys, cache_look, caching, cells
from nbtasks.cache_finding import NotKeyable
from nbtasks.jupyter.again import Verdict
from nbtasks.jupyter.chained import Brought
from nbtasks.jupyter.sending import Draft
from nbtasks.queue import cache

cache_look.register(Brought, lambda brought: brought.parts)


def decide(draft: Draft) -> Verdict | None:
    """The task that stands for this cell; None: it has to run, and takes its place in the cache if it can have one."""
    sent = draft.sent
    try:
        tree = cells.syntax_tree(draft.source)
        key = cache_keys.of_cell(
            sent.queue.blobs, sent.context, tree, draft.source, draft.inputs, draft.asked.outputs
        )  # fmt: skip
    except NotKeyable as error:
        caching.warn("the cell", error)
        return None
    anew = draft.asked.fresh or draft.asked.replace
    found = cache.find(sent.queue, key, -math.inf if anew else draft.asked.cache)
    if found.record is not None and not anew:
        return Verdict(found.record, caching.remark(found.record, "`--fresh`"))
    draft.cached = found
    return None
