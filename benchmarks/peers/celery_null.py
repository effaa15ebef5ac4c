"""Celery with Redis as broker and result store. ``CELERY_REDIS`` is the address.

The worker: ``celery -A celery_null worker --pool solo``. The client: ``python celery_null.py`` reads a number of jobs a
line, and answers with the seconds that a backlog of so many took; 1 is one job alone.
"""

from __future__ import annotations

import os
import sys
import time

from celery import Celery, group
from null_work import SECONDS, picture

app = Celery("celery_null", broker=os.environ["CELERY_REDIS"], backend=os.environ["CELERY_REDIS"])
# A job is acknowledged when it is done: as near as Celery comes to surviving a crash.
app.conf.update(task_acks_late=True, worker_prefetch_multiplier=4)


@app.task(name="null")
def null() -> str:
    """Sleep, and answer with a picture."""
    time.sleep(SECONDS)
    return picture()


if __name__ == "__main__":
    for line in sys.stdin:
        jobs = [null.s() for _ in range(int(line))]
        began = time.perf_counter()
        if len(jobs) == 1:
            jobs[0].apply_async().get(timeout=30)
        else:
            group(jobs).apply_async().get(timeout=120)
        print(time.perf_counter() - began, flush=True)
