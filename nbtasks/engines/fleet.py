"""All flights of one bridge: loaded, sent, heard of, stopped. Every claimed ticket is one of them until it is finished or put back."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterable

from nbtasks.engines import batches, wire
from nbtasks.engines.errands import Errands
from nbtasks.engines.flights import Flight
from nbtasks.engines.foreign import Engine, EngineFull, Shipment, State
from nbtasks.engines.intake import Claim
from nbtasks.engines.landing import Landing
from nbtasks.engines.loading import Loader
from nbtasks.errors import FrameDamaged, FrameError, NbtasksError
from nbtasks.queue import records
from nbtasks.queue.directory import Queue
from nbtasks.queue.tickets import Ticket
from nbtasks.spec import Spec

CHECK = 2.0  # seconds between two questions about what is in flight
_BATCH, _BATCH_SIZE = 50, 8 << 20  # shipments, or bytes, that are sent at once
_SHARES = 8  # of what is in flight, one batch is at most this part
_SHORTEST, _LONGEST = 0.1, 2.0  # seconds until an engine that was full is given something again


class Fleet:
    """The flights of the bridge `me`. What needs the engine raises EngineDown when it does not answer."""

    def __init__(self, queue: Queue, me: str, engine: Engine, say: Callable[[str], None], worker: str = "") -> None:
        self.queue, self.me, self.engine, self.say, self.worker = queue, me, engine, say, worker
        self.flights: dict[Ticket, Flight] = {}
        self.keys: dict[str, Flight] = {}
        self.loader = Loader(queue, me, engine)
        self.landing = Landing(queue, me, engine, say, self._gone)
        self.errands = Errands(queue, me, self._gone)
        self.full_until, self._full_pause = 0.0, _SHORTEST
        self.next_check = 0.0

    def add(self, flight: Flight) -> None:
        """From now on it is ours."""
        self.flights[flight.ticket] = flight
        for key in flight.keys:
            self.keys[key] = flight

    def _gone(self, flight: Flight) -> None:
        """It is finished, or put back."""
        if flight.taken is not None:
            flight.taken.release(self.worker)
            flight.taken = None
        elif flight.spec.needs:  # the tokens of a dead bridge that could not be taken over are free by this
            self.queue.ring_token_waiters(self.worker)
        self.flights.pop(flight.ticket, None)
        for key in flight.all_keys:
            self.keys.pop(key, None)

    # Out.

    def ship(self, claim: Callable[[], Claim | None], room: int) -> int:
        """Claim one batch, at most `room`, and send it; how many were claimed."""
        batch: list[Flight] = []
        size = claimed = 0
        while claimed < min(room, _BATCH) and size < _BATCH_SIZE:
            found = claim()
            if found is None:
                break
            claimed += 1
            flight = self._load(found)
            if flight is not None and flight.shipment is not None:
                batch.append(flight)
                size += len(flight.shipment.bundle)
        if batch:
            self._send(batch)
        return claimed

    def _load(self, claim: Claim) -> Flight | None:
        ticket = claim.ticket
        try:
            flight, outcome = self.loader.load(ticket)
        except OSError as error:  # of the queue's disk: nothing was started
            self.say(f"{ticket.id} is put back: {error}")
            flight = Flight(self._spec(ticket), ticket)
            flight.taken = claim.taken
            self.landing.put_back(flight)
            self.full_until = time.monotonic() + _LONGEST
            return None
        flight.taken = claim.taken
        self.add(flight)
        if flight.taken is not None:  # before it goes anywhere: so it is known whose the tokens are when we are dead
            flight.taken.introduce(flight.spec, self.me)
        if outcome is not None:
            flight.shipment = None
            self.landing.finish_unbegun(flight, outcome)
            return flight
        if flight.is_errand:
            self.errands.start(flight)
        return flight

    def _spec(self, ticket: Ticket) -> Spec:
        try:
            return records.read_spec(self.queue, ticket.id)
        except NbtasksError as error:
            return records.damaged_spec(ticket.id, error)

    def _send(self, batch: list[Flight]) -> None:
        try:
            if not (batch := self._offer(batch)):
                return
            self.engine.send(self._packed([flight for flight in batch if flight.shipment is not None]))
        except EngineFull as error:
            self._take_back(batch, error)
            return
        now = time.monotonic()
        for flight in batch:
            flight.shipment, flight.sent_at, flight.heard = None, now, now
            self.say(f"Executing {flight.spec.name}[{flight.spec.short}]")
        self._full_pause = _SHORTEST
        self.stop(batch)  # asked for between the look and the shipment

    def _take_back(self, batch: list[Flight], error: EngineFull) -> None:
        """It took nothing: the tasks are queued again, and it is asked again later."""
        for flight in batch:
            self.loader.unmark(flight)
            self.landing.put_back(flight)
        self.full_until = time.monotonic() + self._full_pause
        if self._full_pause == _SHORTEST:  # else it was said before
            self.say(f"{error}; its tasks are queued again, and it is tried again every few seconds")
        self._full_pause = min(_LONGEST, self._full_pause * 2)

    def resend(self) -> None:
        """What was under way when the connection was cut goes once more: what has arrived is left as it is."""
        for flight in [flight for flight in self.flights.values() if flight.shipment is not None]:
            self._send([flight])

    def _offer(self, batch: list[Flight]) -> list[Flight]:
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
                self.engine.offer_blobs({hash for flight in batch for hash in flight.offers}, read)
                return batch
            except FrameDamaged as error:
                if not unusable:
                    raise
                for flight in [flight for flight in batch if not unusable.keys().isdisjoint(flight.offers)]:
                    batch = [one for one in batch if one is not flight]
                    self._refuse(flight, error)
                unusable.clear()

    def _refuse(self, flight: Flight, error: FrameDamaged) -> None:
        flight.shipment = None
        self.loader.unmark(flight)
        self.landing.finish_unbegun(flight, self.loader.ended(flight.ticket, error, "damaged"))

    def _packed(self, flights: list[Flight]) -> list[Shipment]:
        """Their shipments. Short tasks go together, when there are so many that other places have theirs all the same."""
        shipments = [flight.shipment for flight in flights if flight.shipment is not None]
        most = len(self.flights) // _SHARES
        if not self.engine.can.batches or most < 2:
            return shipments
        # What has come back before goes alone, so that it is seen what happens to it.
        alone = {flight.key for flight in flights if flight.taken is not None or flight.ticket.delivery > 1}
        expected = {flight.key: self.landing.habits.expect(flight.spec) for flight in flights}
        packed = batches.gather(shipments, lambda one: math.inf if one.key in alone else expected[one.key], most)
        for key in [key for one in packed if one.others for key in one.keys]:
            self.keys[key].in_batch = True
        return packed

    # Back.

    def receive(self) -> None:
        """Take in what has arrived, and let the engine forget what is dealt with."""
        done = []
        for arrival in self.engine.poll():
            flight, may_go = self._take(arrival.data)
            if may_go or flight is None:
                done.append(arrival.receipt)
            else:
                flight.receipts.append(arrival.receipt)
            if flight is not None and flight.ending is not None:
                self.landing.land(flight)
        self.landing.tell_engine(done)

    def _take(self, data: bytes) -> tuple[Flight | None, bool]:
        try:
            packet = wire.unseal(data, self.queue.uuid, self.queue.key)
        except FrameError as error:
            self.say(f"{self.engine.url.shown}: {error}")
            return None, True
        flight = self.keys.get(packet.key)
        if flight is None:
            return None, True
        had_begun = flight.begun
        may_go = flight.take(self.queue, packet)
        if flight.taken is not None and flight.begun and not had_begun:
            flight.taken.start()
        return flight, may_go

    def check(self) -> None:
        """Ask the engine what it knows of what takes a while, and judge what it has lost."""
        now = time.monotonic()
        if now < self.next_check:
            return
        self.next_check = now + CHECK
        mine = (one for one in self.flights.values() if not one.is_errand)
        flying = [one for one in mine if one.shipment is None and one.ending is None]
        asked = [one for one in flying if now - one.sent_at >= CHECK]
        if not asked:
            return
        sights = self.engine.in_flight([key for flight in asked for key in flight.keys])
        self.receive()  # who ended before it answered has said so before
        for flight in asked:
            if not flight.begun:
                known = [key for key in flight.keys if sights[key].state is not State.UNKNOWN]
                flight.settle_key((known or flight.keys)[0])
            if flight.ticket in self.flights and flight.ending is None:
                self.landing.judge(flight, sights[flight.key])

    # Stopping.

    def stop(self, flights: Iterable[Flight]) -> None:
        """Pass on the requests to stop that are on file for any of these."""
        words: dict[str, str] = {}
        for flight in flights:
            with contextlib.suppress(FileNotFoundError):
                word = self.queue.disk.read(self.queue.layout.cancel_file(flight.ticket.id), 64).decode() or "cancel"
                if flight.is_errand:
                    self.errands.stop(flight)
                elif flight.shipment is None and word != flight.stop_word and flight.ticket in self.flights:
                    words[flight.key] = word
        if words:
            never = self.engine.stop(words)
            for key, word in words.items():
                self.keys[key].stop_word = word
            self.landing.stopped(never, self.keys)

    def doubt_all(self) -> None:
        """The engine was away: it may have forgotten what it had, and silence meant nothing."""
        now = time.monotonic()
        for flight in self.flights.values():
            flight.doubt, flight.heard, flight.stop_word = True, now, ""
