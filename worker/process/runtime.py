"""The objects that a process needs to execute runs. They are created at its start and closed at its end."""

import secrets
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from worker.domain import ChatModel, ChatRequest, Reply, Stop
from worker.domain.owner import owner_name
from worker.events.model_slots import ModelSlots
from worker.events.publish import Listeners, Publisher
from worker.loop.conversation import Coroutines
from worker.loop.definition import Definition
from worker.loop.user_loop import UserLoop
from worker.models.event_loop import EventLoop
from worker.observe import tracing
from worker.observe.model_calls import ModelCall
from worker.process import lease_guard
from worker.process.contact import Contact
from worker.process.isolated import IsolatedProcesses
from worker.process.keeper import Keeper
from worker.process.lease_guard import LeaseGuard
from worker.process.liveness import Liveness
from worker.process.presence import Presence
from worker.process.semaphore import Semaphore
from worker.process.sweep import Sweep
from worker.queue.dispatch import Dispatcher, NoDispatcher
from worker.settings import Settings
from worker.store import Database


@dataclass(frozen=True, slots=True)
class Runtime:
    """The shared objects of one process. `execute` receives them as one argument."""

    settings: Settings
    owner: str
    teams: Mapping[str, Definition]
    db: Database
    publisher: Publisher | Listeners
    dispatcher: Dispatcher | NoDispatcher
    event_loop: EventLoop
    coroutines: Coroutines
    user_loop: UserLoop
    model_slots: ModelSlots
    isolated: IsolatedProcesses | None  # None: this process is an isolated one
    keeper: Keeper
    guard: LeaseGuard | None  # None: nothing renews the leases while a tool blocks this process
    liveness: Liveness | None  # None: of a script; others wait for its leases if it is killed
    contact: Contact
    sweep: Sweep
    presence: Presence
    summary_slots: Semaphore
    batch_slots: Semaphore
    threads: list[threading.Thread]

    def ask(
        self,
        model: ChatModel,
        request: ChatRequest,
        on_delta: Callable[[str], None],
        *,
        stop: Stop,
        run_id: str | None = None,
    ) -> Reply:
        """Return the model's reply, after waiting for one of the model's slots. See `EventLoop.ask`."""
        slot = self.model_slots.slot(model.id, stop=stop, run_id=run_id)
        with ModelCall(model.id) as call, slot, tracing.chat(model) as span:
            reply = self.event_loop.ask(model, request, call.start(on_delta), stop=stop)
            call.finish(reply)
            tracing.record_reply(span, reply)
            return reply

    def in_background(self, work: Callable[[], object]) -> None:
        """Call *work* on a new thread. `close` waits for it."""

        def run() -> None:
            try:
                work()
            finally:
                self.threads.remove(thread)

        thread = threading.Thread(target=run, name="background", daemon=True)
        self.threads.append(thread)
        thread.start()

    def close(self) -> None:
        """Stop the threads, then close the connections. Each part is closed before the parts that it uses."""
        self.keeper.hand_over(grace_s=self.settings.handover_seconds)
        for thread in list(self.threads):
            thread.join(timeout=self.settings.handover_seconds)
        self.sweep.close()
        self.presence.leave()
        self.user_loop.close()
        self.event_loop.close()
        self.model_slots.close()
        self.keeper.close()
        if self.guard is not None:
            self.guard.close()
        if self.liveness is not None:
            self.liveness.close()
        self.publisher.close()
        self.db.close()
        tracing.flush()


def start(
    settings: Settings,
    dispatcher: Dispatcher,
    teams: Mapping[str, Definition],
    queues: Sequence[str],
    *,
    isolated: IsolatedProcesses | None,
) -> Runtime:
    """Open the database and the broker, and start the threads of a worker that consumes *queues*.

    *isolated* executes runs that may crash their process. None: this process was started for such a run.
    """
    db = Database(settings.database, pool_size=20)
    publisher = _publisher(settings)
    return _assemble(settings, db, publisher, dispatcher, teams=teams, queues=queues, isolated=isolated, guarded=True)


def start_in_process(settings: Settings, db: Database, dispatcher: Dispatcher | None) -> Runtime:
    """Return a runtime for a script that executes runs. It consumes no queue and needs no broker."""
    listeners = Listeners(None if dispatcher is None else _publisher(settings))
    sender = dispatcher or NoDispatcher()
    return _assemble(settings, db, listeners, sender, teams={}, queues=(), isolated=None, guarded=False)


def _publisher(settings: Settings) -> Publisher:
    return Publisher(settings.broker, prefix=settings.queue_prefix, ttl_s=settings.stream_seconds)


def _assemble(
    settings: Settings,
    db: Database,
    publisher: Publisher | Listeners,
    dispatcher: Dispatcher | NoDispatcher,
    *,
    teams: Mapping[str, Definition],
    queues: Sequence[str],
    isolated: IsolatedProcesses | None,
    guarded: bool,
) -> Runtime:
    tracing.configure(settings)
    liveness = Liveness(db) if guarded else None
    owner = owner_name(secrets.randbits(32), locked=False) if liveness is None else liveness.owner
    ttl_s = settings.lease_seconds
    guard = lease_guard.start(settings.database, owner=owner, ttl_s=ttl_s, alone=isolated is None) if guarded else None
    contact = Contact(ttl_s=ttl_s)
    broker = None if isinstance(dispatcher, NoDispatcher) else settings.broker
    presence = Presence(
        db, contact, worker=owner, definitions=teams.values(), queues=queues, ttl_s=settings.lease_seconds
    )
    user_loop = UserLoop()
    return Runtime(
        settings=settings,
        owner=owner,
        teams=teams,
        db=db,
        publisher=publisher,
        dispatcher=dispatcher,
        event_loop=EventLoop(),
        coroutines=user_loop,
        user_loop=user_loop,
        model_slots=ModelSlots(broker, prefix=settings.queue_prefix, limit=settings.model_calls_in_flight),
        isolated=isolated,
        keeper=Keeper(
            db,
            contact,
            owner=owner,
            ttl_s=ttl_s,
            probes=isolated is not None,
            shared=None if guard is None else guard.shared,
        ),
        guard=guard,
        liveness=liveness,
        contact=contact,
        sweep=Sweep(db, dispatcher, contact, extra_steps=[presence.announce]),
        presence=presence,
        summary_slots=Semaphore(settings.summary_slots),
        batch_slots=Semaphore(settings.batch_slots),
        threads=[],
    )
