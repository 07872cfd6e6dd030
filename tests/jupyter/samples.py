"""Tasks as the cards see them, made by hand: a stand-in for a record of a queue, with real specs and outcomes."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from nbtasks.outcome import Failure, Outcome, Variable
from nbtasks.queue.layout import id_at, submitted_at
from nbtasks.queue.members import Usage
from nbtasks.spec import Spec
from nbtasks.status import Status

# Midday, so that the day is the same in most time zones; times on cards are local.
NOW = time.mktime((2026, 11, 20, 12, 6, 11, 0, 0, -1))


@dataclass(frozen=True)
class Sample:
    """What `render.Shown` asks for, held in memory."""

    spec: Spec
    status: Status
    reason: str = ""
    attempt: int = 1
    outcome: Outcome | None = None
    started: float | None = None
    usage: Usage | None = None
    earlier: tuple[Outcome, ...] = ()
    log: str = ""
    state: dict[str, Any] | None = None
    shown: list[dict[str, Any]] = field(default_factory=list)

    @property
    def submitted(self) -> float:
        return submitted_at(self.spec.id)

    @property
    def ended(self) -> float | None:
        return self.outcome.ended if self.outcome else None

    def log_tail(self, lines: int = 200, size: int = 20_000) -> str:
        return "\n".join(self.log[-size:].split("\n")[-lines - 1 :])

    def progress(self) -> dict[str, Any] | None:
        return self.outcome.progress if self.outcome else self.state

    def events(self) -> list[dict[str, Any]]:
        return self.shown


def spec(name: str, short: str = "k7q2", **fields: Any) -> Spec:
    """A spec submitted a little before NOW."""
    return Spec(id=id_at(int((NOW - 500) * 1e6), short), name=name, **fields)


def sample(name: str, status: Status, short: str = "k7q2", **fields: Any) -> Sample:
    """A task that has not ended; fields of the spec are given as ``spec_…``."""
    of_spec = {key.removeprefix("spec_"): fields.pop(key) for key in list(fields) if key.startswith("spec_")}
    return Sample(spec=spec(name, short, **of_spec), status=status, **fields)


def ended(
    name: str, status: Status, short: str = "k7q2", *, took: float = 380.0, log: str = "", **fields: Any
) -> Sample:
    """A task that has ended at NOW after `took` seconds; other fields are the outcome's, or ``spec_…``."""
    of_spec = {key.removeprefix("spec_"): fields.pop(key) for key in list(fields) if key.startswith("spec_")}
    asked = spec(name, short, **of_spec)
    fields.setdefault("started", NOW - took)
    outcome = Outcome(id=asked.id, delivery=1, status=status, ended=NOW, **fields)
    return Sample(spec=asked, status=status, reason=outcome.reason, attempt=outcome.attempt, outcome=outcome, log=log)


def bar(desc: str, n: float, total: float | None, **fields: Any) -> dict[str, Any]:
    """One entry of a progress state."""
    base = {"id": 1, "unit": "it", "rate": None, "elapsed": 131.0, "postfix": "", "closed": False}
    return {**base, "desc": desc, "n": n, "total": total, **fields}


def state(*bars: dict[str, Any], message: str = "") -> dict[str, Any]:
    """A progress state."""
    return {"bars": list(bars), "message": message, "time": NOW}


TRACEBACK = """\x1b[31m---------------------------------------------------------------------------\x1b[39m
\x1b[31mValueError\x1b[39m                                Traceback (most recent call last)
\x1b[36mCell\x1b[39m\x1b[36m \x1b[39m\x1b[32mIn[12]\x1b[39m\x1b[32m, line 3\x1b[39m
\x1b[32m      1\x1b[39m frame = load(\x1b[33m"prices.csv"\x1b[39m)
\x1b[32m      2\x1b[39m frame = frame.dropna()
\x1b[32m----> \x1b[39m\x1b[32m3\x1b[39m prices = \x1b[43mframe[\x1b[33m"price"\x1b[39m].astype(\x1b[38;5;28mfloat\x1b[39m)\x1b[49m
\x1b[32m      4\x1b[39m \x1b[38;5;28mprint\x1b[39m(prices.mean())

\x1b[36mFile \x1b[39m\x1b[32m/home/anna/churn/.venv/lib/python3.11/site-packages/pandas/core/generic.py:6662\x1b[39m, in \x1b[36mNDFrame.astype\x1b[39m\x1b[34m(self, dtype, copy, errors)\x1b[39m
\x1b[32m   6660\x1b[39m     \x1b[38;5;66;03m# else, only a single dtype is given\x1b[39;00m
\x1b[32m-> \x1b[39m\x1b[32m6662\x1b[39m     new_data = \x1b[38;5;28mself\x1b[39m._mgr.astype(dtype=dtype, copy=copy, errors=errors)

\x1b[36mFile \x1b[39m\x1b[32m/home/anna/churn/.venv/lib/python3.11/site-packages/pandas/core/dtypes/astype.py:133\x1b[39m, in \x1b[36m_astype_nansafe\x1b[39m\x1b[34m(arr, dtype)\x1b[39m
\x1b[32m--> \x1b[39m\x1b[32m133\x1b[39m     \x1b[38;5;28;01mreturn\x1b[39;00m arr.astype(dtype, copy=\x1b[38;5;28;01mTrue\x1b[39;00m)

\x1b[31mValueError\x1b[39m: could not convert string to float: 'n/a'"""

PYTHON_TRACEBACK = """Traceback (most recent call last):
  File "/home/anna/churn/helper.py", line 40, in load
    return json.loads(text)
           ^^^^^^^^^^^^^^^^
  File "/usr/lib/python3.11/json/__init__.py", line 346, in loads
    return _default_decoder.decode(s)
  File "/usr/lib/python3.11/json/decoder.py", line 337, in decode
    obj, end = self.raw_decode(s, idx=_w(s, 0).end())
json.decoder.JSONDecodeError: Expecting value: line 1 column 1 (char 0)"""

VARIABLES = (
    Variable(name="model", changed=True, size=4_000),
    Variable(name="history", preview="DataFrame 20 × 4", size=900),
    Variable(name="X_train", preview="ndarray (60000, 784) float64", size=2_254_857_830, bind=False),
    Variable(name="conn", left_out="sqlite3.Connection cannot be pickled"),
)


def gallery() -> list[Sample]:
    """One task of every kind, as in a notebook."""
    running = state(
        bar("epoch", 7, 20, rate=1 / 18.4), bar("batch", 248, 400, postfix="loss=0.31"), message="warming up the cache"
    )
    return [
        sample("fit forest", Status.QUEUED, "m3x9", reason="3rd in line"),
        sample("load sales", Status.QUEUED, "b7ee", reason="no worker: starting one"),
        sample("train_b", Status.WAITING, "q8dd", reason="for clean_prices p2vh (running)"),
        sample(
            "train_model", Status.RUNNING, spec_retries=2, spec_kind="cell", reason="attempt 1 of 3", started=NOW - 131,
            usage=Usage(ticket="", memory=1_288_490_188, peak=0, cpu=430, cores=3.6),
            state=running, log="".join(f"epoch {n}: loss {0.9 / n:.3f}  val \x1b[32m{1 / n:.3f}\x1b[0m\n" for n in range(1, 12)),
        ),
        ended(
            "train_model", Status.SUCCEEDED, spec_kind="cell", variables=VARIABLES, has_value=True, preview="0.9731",
            peak_memory=1_288_490_188, log="accuracy \x1b[1m0.9731\x1b[0m on 10,000 digits\n",
        ),
        ended("score", Status.SUCCEEDED, "s0re", took=0.35, has_value=True, preview="DataFrame 1200 × 8",
              log="".join(f"fold {n} done\n" for n in range(40))),
        ended(
            "clean_prices", Status.FAILED, "p2vh", took=4.2, spec_kind="cell", log="reading prices.csv\n",
            failure=Failure(
                type="ValueError", message="could not convert string to float: 'n/a'", traceback=TRACEBACK,
                where="cell [12], line 3",
            ),
            progress=state(bar("files", 3, 31, unit="file", rate=1.9)),
            variables=(Variable(name="frame", preview="DataFrame 1200 × 8"),),
        ),
        ended(
            "simulate", Status.FAILED, "z0ka", took=4320, kind="killed", reason="killed, out of memory", signal=9,
            peak_memory=int(15.8 * 2**30), progress=state(bar("step", 42_000, 100_000, rate=9.7)),
            log="step 41000: energy -1.2031e4\nstep 42000: energy -1.2029e4\n",
        ),
        ended("nightly", Status.FAILED, "n1t3", took=9300, kind="lost", reason="lost, the host restarted at 03:12",
              log="extracting\n"),
        ended("report", Status.FAILED, "r3pp", kind="upstream", started=0.0, reason="clean_prices p2vh failed"),
        ended("crawl", Status.FAILED, "cr4w", took=3600, kind="timed out", reason="over its limit of 1 h"),
        ended("grid search", Status.CANCELLED, "d4nn", took=760, spec_kind="cell", attempt=1,
              variables=(Variable(name="best_so_far", preview="dict, 4 items"),),
              progress=state(bar("fit", 131, 400, rate=0.17))),
        sample("export", Status.CANCELLED, "e8pt", reason="before it started"),
    ]  # fmt: skip


def more() -> list[Sample]:
    """Reasons that are rarer."""
    return [
        sample("load sales", Status.QUEUED, "b8ee", reason="next in line; no worker: starting one"),
        sample(
            "fetch rates", Status.WAITING, "f3rt", spec_retries=2, reason="attempt 2 of 3 in 12 s",
            earlier=(
                Outcome(
                    id="", delivery=1, status=Status.FAILED, started=NOW - 60, ended=NOW - 56,
                    failure=Failure(type="ConnectionError", message="the server closed the connection"),
                ),
            ),
        ),
        sample(
            "big table", Status.RUNNING, "b1gt", started=NOW - 700, usage=Usage(ticket="", memory=4_300_000_000, peak=0, cpu=600),
            reason="the disk is full: needs 4.2 GB, 1.1 GB free; it tries again until there is room",
        ),
    ]  # fmt: skip
