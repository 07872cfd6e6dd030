"""Celery without nbtasks, as its own tutorial has it: the application that its worker and the benchmark load. ALONE is its Redis."""

from __future__ import annotations

import os

import celery

from tests.benchmarks import calls

app = celery.Celery("alone", broker=os.environ["ALONE"], backend=os.environ["ALONE"], set_as_current=False)
app.conf.update(task_default_queue="alone", broker_connection_retry_on_startup=True)
nap = app.task(calls.nap_of)
