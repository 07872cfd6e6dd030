"""One notebook, run in a slot: its kernel, its cells one by one, the copy on the disk, the bar on the card.

nbclient runs in a thread of its own, so that an interrupt of the task reaches this file, on the main thread, and never
the middle of an event loop: it interrupts the kernel, and what the cell makes of that is waited for.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from nbtasks import (
    bars,
    config,
    notebook_copies,
    notebook_ends,
    notebook_kernels,
    notebook_parameters,
    notebook_resume,
    payload,
)
from nbtasks.errors import NbtasksError
from nbtasks.frames import Part
from nbtasks.notebook_ends import CELL, RUN, STATE, Ran
from nbtasks.notebook_exchange import EARLIER, Exchange, make_folder
from nbtasks.notebook_files import (
    EarlierRun,
    NotebookCall,
    heading_of,
    paths_of,
    sources_of,
    without_outputs,
    write_whole,
)
from nbtasks.queue.deaths import Death
from nbtasks.queue.tickets import Ticket

if TYPE_CHECKING:
    from nbtasks.notebook_client import Client, Node

_LOOK = 0.02  # seconds between two looks whether a cell runs
_CODE = '__import__("nbtasks.notebook_given").notebook_given.{}'


class _Stopped(Exception):
    """The task is to stop, and the next cell does not begin."""


class Run:
    """One delivery of a notebook task. Call `run` once, on the main thread."""

    def __init__(
        self, call: NotebookCall, given: Mapping[str, object], ticket: Ticket, earlier: Mapping[str, Part],
        moment: float | None = None,
    ) -> None:  # fmt: skip
        """`earlier` has what an earlier run left, when this one may go on from there. OptionError: a parameter is wrong.

        `moment` is the one that the run is for, when it was not to run at once.
        """
        self.call, self.ticket, self.earlier = call, ticket, earlier
        self.values = notebook_parameters.check_all(given, call.content, call.path)
        self.content = notebook_parameters.inject(without_outputs(call.content), self.values)
        self.copy, self.page = paths_of(call, ticket.id, self.values, moment or time.time())
        self.sources = sources_of(self.content)
        self.number, self.index, self.heading = 0, 0, ""  # of the cell that runs
        self.first = 1  # the number of the cell from which on they run
        self.stopping = False
        self.node: Node = None
        self.client: Client | None = None
        self.kernel: Any = None
        self.exit_code: int | None = None  # of a kernel that died
        self.loop: asyncio.AbstractEventLoop | None = None
        self.error: BaseException | None = None
        self.scraps: dict[str, Any] = {}
        self.gave = ""  # the path that is its value, when it has no other
        self._done = threading.Event()
        self._trouble = ""  # of the last attempt to save

    # The main thread.

    def run(self) -> Ran:
        """Run the notebook to its end, and say how that was. Raises what is not the notebook's own fault."""
        folder = make_folder()
        limit = config.settings().bring_back_limit
        self.exchange = Exchange(folder, os.urandom(32).hex(), self.ticket.id, self.ticket.delivery, limit)
        self.bar: bars.Bar[Any] = bars.progress(total=len(self.sources), desc="cell")
        self.bar.message(f"starting the kernel {self.call.kernel}")
        started = time.monotonic()
        try:
            threading.Thread(target=self._work, name="nbtasks-notebook", daemon=True).start()
            self._wait()
            ran = self._judge()
        finally:
            self.bar.close()
            shutil.rmtree(folder, ignore_errors=True)
        self._say(ran, time.monotonic() - started)
        return ran

    def _wait(self) -> None:
        # Not `Thread.join`: interrupted, it takes the thread for ended (Python 3.11, 3.12).
        while not self._done.is_set():
            try:
                self._done.wait()
            except KeyboardInterrupt:  # comes once: `run.try_interrupt`
                self.stopping = True
                if self.loop is not None and not self.loop.is_closed():
                    self.loop.call_soon_threadsafe(self._interrupt)

    def save(self) -> None:
        """Write the copy as it is now. Raises OSError."""
        from nbtasks.notebook_client import text_of

        if self.node is not None:
            write_whole(self.copy, text_of(self.node))

    def save_all(self) -> bool:
        """Write the copy and the page as they are to stay. Raises OSError; then it may be called again. Always True."""
        self.save()
        self._save_page()
        return True

    def _save_page(self) -> None:
        """Write the HTML page, if one is wanted; the copy goes when it was wanted for that alone, and all went well."""
        if not self.page or self.node is None:
            return
        notebook_copies.write_page(self.page, self.node)
        if self.call.only_page and self.error is None:
            os.unlink(self.copy)

    def for_cache(self) -> list[Part]:
        """What the cache keeps beside what came back: nothing when it was not asked for, or stands for something else."""
        if self.call.files is None or self.first > 1:
            return []
        if changed := notebook_copies.changed_files(self.call.files):
            print(f"not cached: {os.path.relpath(changed[0])} was changed after this was submitted")
            return []
        from nbtasks.notebook_client import text_of

        return [payload.dump(notebook_copies.PART, notebook_copies.Kept(text_of(self.node), self.values, self.gave))]

    def _judge(self) -> Ran:
        """What comes back, by the exception that ended the thread."""
        from nbtasks.notebook_client import CellExecutionError, DeadKernelError, OverTime

        error = self.error
        if error is None or isinstance(error, _Stopped) or (self.stopping and isinstance(error, CellExecutionError)):
            target = self.page if self.call.only_page else self.copy
            self.gave = "" if self.scraps or self.exchange.has_given() else target
            ran = notebook_ends.given(self.exchange, self.scraps, target)
            return ran if not self.stopping or self.exchange.has_given() else self._kept()
        if not isinstance(error, (CellExecutionError, DeadKernelError, OverTime)):
            raise self._explained(error)
        ran = self._kept()
        outputs = self.node.cells[self.index].outputs
        if isinstance(error, CellExecutionError):
            ran.failure = notebook_ends.failure(error.ename, error.evalue, outputs, self.number)
        elif isinstance(error, OverTime):
            ran.kind = "timed out"
            ran.reason = f"timed out: cell [{self.number}] took longer than {self.call.cell_timeout:g} s"
            ran.failure = notebook_ends.failure("nbtasks.errors.TaskTimedOut", ran.reason, outputs, self.number)
        else:
            ran.kind, ran.reason = "killed", f"{self._death()}, in cell [{self.number}]"
        return ran

    def _kept(self) -> Ran:
        sources = tuple(self.sources[: self.number])
        return notebook_ends.kept(self.exchange, EarlierRun(self.ticket.id, self.copy, self.number, sources))

    def _death(self) -> str:
        code = self.exit_code
        death = (
            Death(signal=-code)
            if code is not None and code < 0
            else Death(exit_code=code, reason="its end was not seen")
        )
        return f"the notebook's kernel: {death.words()}"

    def _explained(self, error: BaseException) -> BaseException:
        if isinstance(error, RuntimeError) and "Kernel died" in str(error):
            return NbtasksError(
                f"the kernel {self.call.kernel} ended before it was ready; what it said is in the log. "
                f"Does it start by hand: jupyter console --kernel {self.call.kernel}"
            )
        return error

    def _say(self, ran: Ran, seconds: float) -> None:
        where = os.path.relpath(self.page if self.call.only_page and not ran.failed else self.copy)
        under = f" ({self.heading})" if self.heading else ""
        if self.stopping:
            print(f"stopped at cell {self.number} of {len(self.sources)}{under}: {where}")
        elif ran.failed:
            print(f"cell {self.number} of {len(self.sources)}{under} failed; the notebook so far: {where}")
        else:
            print(f"{len(self.sources)} cells in {seconds:.1f} s, the last one{under}: {where}")

    # The thread of nbclient.

    def _work(self) -> None:
        try:
            asyncio.run(self._execute())
        except BaseException as error:
            self.error = error
        finally:
            self._done.set()

    async def _execute(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.kernel = await notebook_kernels.start(self.call, self.exchange)
        # Loaded while the kernel starts, which takes longer.
        from nbtasks.notebook_client import NotRestored, node_of, take_over

        self.node = node_of(self.content)
        self._plan_resume(take_over)
        self._try_save()
        try:
            await self._run_cells()
        except NotRestored:
            print("The variables of the earlier run could not be taken up: all cells are executed.")
            self.first, self.node = 1, node_of(self.content)
            self.kernel = await notebook_kernels.start(self.call, self.exchange)
            await self._run_cells()

    def _plan_resume(self, take_over: Callable[[Node, str, int], bool]) -> None:
        """Decide from which cell on it runs, and say so."""
        if not self.call.resume:
            return
        if not all(part in self.earlier for part in (RUN, CELL, STATE)):
            print("There is no failed run to go on from: all cells are executed.")
            return
        run: EarlierRun = payload.load(self.earlier[RUN])
        short = run.task.rpartition("-")[2]
        why = notebook_resume.why_not(run, self.sources)
        if not why and not take_over(self.node, run.copy, run.number):
            why = f"its copy {os.path.relpath(run.copy)} is gone or was changed"
        if why:
            print(f"{short} failed, but all cells are executed again: {why}.")
            return
        self.first = run.number
        self.exchange.write(EARLIER, [self.earlier[CELL], self.earlier[STATE]], self.exchange.blank())
        print(f"Going on from cell {run.number}: those before it are as they were in {short}.")

    async def _run_cells(self) -> None:
        from nbtasks.notebook_client import Client

        code = {"keep": f"keep({self.call.resume})", "restore": f"restore({self.first})"}
        silent = {name: _CODE.format(text) for name, text in code.items()} if self.kernel.ipykernel else {}
        self.client = Client(
            self.node, self.kernel, before=self._before, after=self._after, silent=silent, first=self.first,
            cell_timeout=self.call.cell_timeout,
        )  # fmt: skip
        await self.client.async_execute(cleanup_kc=True)

    def _before(self, number: int, index: int) -> None:
        if self.stopping:
            raise _Stopped
        self.number, self.index, self.heading = number, index, heading_of(self.node.cells, index)
        self.bar.postfix = self.heading
        self.bar.set(number)

    def _after(self) -> None:
        process = getattr(self.kernel.provisioner, "process", None)
        self.exit_code = process.poll() if process is not None else None
        self.scraps |= notebook_ends.scraps_in(self.node.cells[self.index].outputs)
        if self.client is not None:
            self.client.set_widgets_metadata()
        self._try_save()

    def _try_save(self) -> None:
        # A full disk must not end what runs: there will be a next time, and the last one waits for room.
        try:
            self.save()
            self._trouble = ""
        except OSError as error:
            if not self._trouble:
                print(
                    f"{os.path.relpath(self.copy)} could not be written ({error.strerror}): tried again after the next cell"
                )
            self._trouble = str(error)

    def _interrupt(self) -> None:
        self._interrupting = asyncio.ensure_future(self._interrupt_cell())

    async def _interrupt_cell(self) -> None:
        """Interrupt the cell that runs, or that was sent and is about to run: a kernel without work ignores interrupts."""
        number = self.number
        while number and self.number == number and self.client is not None:
            if "iopub.execute_input" in self.node.cells[self.index].metadata.get("execution", {}):
                self.client.interrupt()
                return
            await asyncio.sleep(_LOOK)
