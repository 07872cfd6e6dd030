"""What a bridge has in flight: loaded, sent, heard of, stopped. Every claimed ticket is in it until it is finished or put back."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterable

from nbtasks.engines import batches, wire
from nbtasks.engines.bridged_task import BridgedTask
from nbtasks.engines.claiming import Claim
from nbtasks.engines.finishing import Finishing
from nbtasks.engines.foreign import Engine, EngineFull, Shipment, State
from nbtasks.engines.loading import Loader
from nbtasks.engines.local_tasks import LocalTasks
from nbtasks.errors import FrameDamaged, FrameError, NbtasksError
from nbtasks.queue import members, records
from nbtasks.queue.directory import Queue
from nbtasks.queue.tickets import Ticket
from nbtasks.spec import Spec

CHECK = 2.0  # seconds between two questions about what is in flight
_BATCH, _BATCH_SIZE = 50, 8 << 20  # shipments, or bytes, that are sent at once
_SHARES = 6  # of what is in flight, one batch is at most this part
_SHORTEST, _LONGEST = 0.1, 2.0  # seconds until an engine that was full is given something again


class InFlight:
    """What the bridge `me` has under way. What needs the engine raises EngineDown when it does not answer."""

    def __init__(self, queue: Queue, me: str, engine: Engine, say: Callable[[str], None], worker: str = "") -> None:
        self.queue, self.me, self.engine, self.say, self.worker = queue, me, engine, say, worker
        self.tasks: dict[Ticket, BridgedTask] = {}
        self.keys: dict[str, BridgedTask] = {}
        self.loader = Loader(queue, me, engine)
        self.finishing = Finishing(queue, me, engine, say, self._gone)
        self.local_tasks = LocalTasks(queue, me, self._gone)
        self.full_until, self._full_pause = 0.0, _SHORTEST
        self.next_check = 0.0
        self._unbegun: set[str] = set()  # ids that are known to wait at the engine

    def add(self, task: BridgedTask) -> None:
        """From now on it is ours."""
        self.tasks[task.ticket] = task
        for key in task.keys:
            self.keys[key] = task

    def _gone(self, task: BridgedTask) -> None:
        """It is finished, or put back."""
        if task.taken is not None:
            task.taken.release(self.worker)
            task.taken = None
        elif task.spec.needs:  # the tokens of a dead bridge that could not be taken over are free by this
            self.queue.ring_token_waiters(self.worker)
        self.tasks.pop(task.ticket, None)
        for key in task.all_keys:
            self.keys.pop(key, None)

    # Out.

    def ship(self, claim: Callable[[], Claim | None], room: int) -> int:
        """Claim one batch, at most `room`, and send it; how many were claimed."""
        batch: list[BridgedTask] = []
        size = claimed = 0
        while claimed < min(room, _BATCH) and size < _BATCH_SIZE:
            found = claim()
            if found is None:
                break
            claimed += 1
            task = self._load(found)
            if task is not None and task.shipment is not None:
                batch.append(task)
                size += len(task.shipment.bundle)
        if batch:
            self._send(batch)
        elif not claimed:
            self._takes_again()  # for all that is known
        return claimed

    def _load(self, claim: Claim) -> BridgedTask | None:
        ticket = claim.ticket
        try:
            task, outcome = self.loader.load(ticket)
        except OSError as error:  # of the queue's disk: nothing was started
            self.say(f"{ticket.id} is put back: {error}")
            task = BridgedTask(self._spec(ticket), ticket)
            task.taken = claim.taken
            self.finishing.put_back(task)
            self.full_until = time.monotonic() + _LONGEST
            return None
        task.taken = claim.taken
        self.add(task)
        if task.taken is not None:  # before it goes anywhere: so it is known whose the tokens are when we are dead
            task.taken.introduce(task.spec, self.me)
        if outcome is not None:
            task.shipment = None
            self.finishing.finish_unbegun(task, outcome)
            return task
        if task.is_local:
            self.local_tasks.start(task)
        return task

    def _spec(self, ticket: Ticket) -> Spec:
        try:
            return records.read_spec(self.queue, ticket.id)
        except NbtasksError as error:
            return records.damaged_spec(ticket.id, error)

    def _send(self, batch: list[BridgedTask]) -> None:
        try:
            if not (batch := self._offer(batch)):
                return
            self.engine.send(self._packed([task for task in batch if task.shipment is not None]))
        except EngineFull as error:
            self._take_back(batch, error)
            return
        now = time.monotonic()
        for task in batch:
            task.shipment, task.sent_at, task.heard = None, now, now
            self.say(f"Executing {task.spec.name}[{task.spec.short}]")
        self._takes_again()
        self.stop(batch)  # asked for between the look and the shipment

    def _takes_again(self) -> None:
        if self._full_pause > _SHORTEST:
            self._full_pause = _SHORTEST
            members.note_trouble(self.queue, self.me, "")

    def _take_back(self, batch: list[BridgedTask], error: EngineFull) -> None:
        """It took nothing: the tasks are queued again, and it is asked again later."""
        for task in batch:
            self.loader.unmark(task)
            self.finishing.put_back(task)
        self.full_until = time.monotonic() + self._full_pause
        if self._full_pause == _SHORTEST:  # else it was said before
            members.note_trouble(self.queue, self.me, str(error))
            self.say(f"{error}; its tasks are queued again, and it is tried again every few seconds")
        self._full_pause = min(_LONGEST, self._full_pause * 2)

    def resend(self) -> None:
        """What was under way when the connection was cut goes once more: what has arrived is left as it is."""
        for task in [task for task in self.tasks.values() if task.shipment is not None]:
            self._send([task])

    def _offer(self, batch: list[BridgedTask]) -> list[BridgedTask]:
        """Let the engine have the blobs that these need. Those whose blob is missing or damaged end; the others are left."""
        unusable: dict[str, FrameDamaged] = {}

        def read(hash: str) -> bytes:
            try:
                return self.queue.blobs.read(hash)
            except FrameDamaged as error:
                unusable[hash] = error
                raise

        while True:
            try:
                self.engine.offer_blobs({hash for task in batch for hash in task.offers}, read)
                return batch
            except FrameDamaged as error:
                if not unusable:
                    raise
                for task in [task for task in batch if not unusable.keys().isdisjoint(task.offers)]:
                    batch = [one for one in batch if one is not task]
                    self._refuse(task, error)
                unusable.clear()

    def _refuse(self, task: BridgedTask, error: FrameDamaged) -> None:
        task.shipment = None
        self.loader.unmark(task)
        self.finishing.finish_unbegun(task, self.loader.ended(task.ticket, error, "damaged"))

    def _packed(self, tasks: list[BridgedTask]) -> list[Shipment]:
        """Their shipments. Short tasks go together, when there are so many that other places have theirs all the same."""
        shipments = [task.shipment for task in tasks if task.shipment is not None]
        most = len(self.tasks) // _SHARES
        if not self.engine.can.batches or most < 2:
            return shipments
        # What has come back before goes alone, so that it is seen what happens to it.
        alone = {task.key for task in tasks if task.taken is not None or task.ticket.delivery > 1}
        expected = {task.key: self.finishing.durations.expect(task.spec) for task in tasks}
        packed = batches.gather(shipments, lambda one: math.inf if one.key in alone else expected[one.key], most)
        for key in [key for one in packed if one.others for key in one.keys]:
            self.keys[key].in_batch = True
        return packed

    # Back.

    def receive(self) -> None:
        """Take in what has arrived, and let the engine forget what is dealt with."""
        done = []
        for received in self.engine.poll():
            task, may_go = self._take(received.data)
            if may_go or task is None:
                done.append(received.receipt)
            else:
                task.receipts.append(received.receipt)
            if task is not None and task.ending is not None:
                self.finishing.finish_as_told(task)
        self.finishing.tell_engine(done)

    def _take(self, data: bytes) -> tuple[BridgedTask | None, bool]:
        try:
            packet = wire.unseal(data, self.queue.uuid, self.queue.key)
        except FrameError as error:
            self.say(f"{self.engine.url.shown}: {error}")
            return None, True
        task = self.keys.get(packet.key)
        if task is None:
            return None, True
        had_begun = task.begun
        may_go = task.take(self.queue, packet)
        if task.taken is not None and task.begun and not had_begun:
            task.taken.start()
        return task, may_go

    def check(self) -> None:
        """Ask the engine what it knows of what takes a while, and judge what it has lost."""
        now = time.monotonic()
        if now < self.next_check:
            return
        self.next_check = now + CHECK
        mine = (one for one in self.tasks.values() if not one.is_local)
        waiting = [one for one in mine if one.shipment is None and one.ending is None]
        asked = [one for one in waiting if now - one.sent_at >= CHECK]
        if not asked:
            self._note_unbegun(set())
            return
        seen = self.engine.in_flight([key for task in asked for key in task.keys])
        self.receive()  # who ended before it answered has said so before
        for task in asked:
            if not task.begun:
                known = [key for key in task.keys if seen[key].state is not State.UNKNOWN]
                task.settle_key((known or task.keys)[0])
            if task.ticket in self.tasks and task.ending is None:
                self.finishing.judge(task, seen[task.key])
        there = {one.ticket.id for one in asked if not one.begun and seen[one.key].state is State.QUEUED}
        self._note_unbegun(there & {ticket.id for ticket in self.tasks})

    def _note_unbegun(self, ids: set[str]) -> None:
        """For the cards: such a task is ours, and so it runs for all that the queue knows."""
        if ids != self._unbegun:
            self._unbegun = ids
            words = f"not begun: it waits for a worker at {self.engine.url.shown}"
            members.note_unbegun(self.queue, self.me, words, ids)

    # Stopping.

    def stop(self, tasks: Iterable[BridgedTask]) -> None:
        """Pass on the requests to stop that are on file for any of these."""
        words: dict[str, str] = {}
        for task in tasks:
            with contextlib.suppress(FileNotFoundError):
                word = self.queue.disk.read(self.queue.layout.cancel_file(task.ticket.id), 64).decode() or "cancel"
                if task.is_local:
                    self.local_tasks.stop(task)
                elif task.shipment is None and word != task.stop_word and task.ticket in self.tasks:
                    words[task.key] = word
        if words:
            never = self.engine.stop(words)
            for key, word in words.items():
                self.keys[key].stop_word = word
            self.finishing.stopped(never, self.keys)

    def doubt_all(self) -> None:
        """The engine was away: it may have forgotten what it had, and silence meant nothing."""
        now = time.monotonic()
        for task in self.tasks.values():
            task.doubt, task.heard, task.stop_word = True, now, ""
