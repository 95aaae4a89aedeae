"""The thread that a device belongs to: questions queue up, and those that wait are answered together."""

from __future__ import annotations

import logging
import queue
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from insignia_index.gpu.batch import Ask, Batch
from insignia_index.gpu.device import Device, DeviceMemoryFull
from insignia_model.errors import InsigniaError

log = logging.getLogger(__name__)

T = TypeVar("T")

#: Queries in one launch. More wait for the next one: by then the device has long been busy.
MAX_BATCH = 32


class _Call:
    """Other work for the device than a question."""

    def __init__(self, work: Callable[[Device], Any]) -> None:
        self.work = work
        self.future: Future[Any] = Future()


_Queue = queue.SimpleQueue[Ask | _Call | None]


class Owner:
    """Makes a device in a thread of its own and gives it work. Safe for many threads."""

    def __init__(self, make: Callable[[], Device]) -> None:
        self._waiting: _Queue = queue.SimpleQueue()
        self._closed = False
        self._lock = threading.Lock()
        made: Future[str] = Future()
        # a daemon, which the finalizer ends: any other would keep an interpreter that nobody told to close it
        thread = threading.Thread(
            target=_serve, args=(self._waiting, make, made), name="insignia-gpu", daemon=True
        )
        thread.start()
        self._stop = weakref.finalize(self, _stop, self._waiting, thread)
        self.name = made.result()

    def call(self, work: Callable[[Device], T]) -> T:
        """Do ``work`` on the device's thread, between questions, and wait for it."""
        call = _Call(work)
        self._put(call)
        result: T = call.future.result()
        return result

    def ask(self, ask: Ask) -> None:
        """Have a question answered; its future brings the answer."""
        self._put(ask)

    def _put(self, item: Ask | _Call) -> None:
        with self._lock:
            if self._closed:
                raise ValueError(f"{self.name} is closed")
            self._waiting.put(item)

    def close(self) -> None:
        """Answer what waits, then end the thread."""
        with self._lock:
            self._closed = True
        self._stop()


def _stop(waiting: _Queue, thread: threading.Thread) -> None:
    waiting.put(None)
    if thread is not threading.current_thread():  # garbage may be collected by any
        thread.join()


def _serve(waiting: _Queue, make: Callable[[], Device], made: Future[str]) -> None:
    """What the device's thread does until None comes."""
    try:
        device = make()
    except BaseException as error:
        made.set_exception(error)
        return
    made.set_result(device.name)
    item = waiting.get()
    while item is not None:
        if isinstance(item, _Call):
            _settle(item, device)
            following = None
        else:
            asks, following = _gather(waiting, item)
            answer(device, asks)
            del asks
        item = following  # nothing else is kept while the thread waits
        if item is None:
            item = waiting.get()
    device.close()


def _gather(waiting: _Queue, first: Ask) -> tuple[list[Ask], Ask | _Call | None]:
    """The questions of one snapshot that wait, and what comes after them, if anything does."""
    asks = [first]
    while len(asks) < MAX_BATCH:
        try:
            item = waiting.get_nowait()
        except queue.Empty:
            break
        if item is None:
            waiting.put(None)
            break
        if isinstance(item, _Call) or item.residency is not first.residency:
            return asks, item
        asks.append(item)
    return asks, None


def _settle(call: _Call, device: Device) -> None:
    try:
        call.future.set_result(call.work(device))
    except BaseException as error:
        call.future.set_exception(error)


def answer(device: Device, asks: list[Ask]) -> None:
    """Answer those that anybody still waits for; in halves if the device's memory is too small for all."""
    waited_for = [ask for ask in asks if _is_waited_for(ask)]
    if waited_for:
        _answer(device, waited_for)


def _answer(device: Device, asks: list[Ask], *, again: bool = False) -> None:
    problem = _try(device, asks)
    # only now is the memory of the attempt free: the error's traceback referred to it
    if not problem:
        return
    if len(asks) > 1:
        half = len(asks) // 2
        _answer(device, asks[:half])
        _answer(device, asks[half:])
    elif not again:
        asks[0].groupings.clear()
        _answer(device, asks, again=True)
    else:
        asks[0].future.set_exception(DeviceMemoryFull(problem))


def _try(device: Device, asks: list[Ask]) -> str:
    """Answer them all, with an error if need be; or say what did not fit into the device's memory."""
    try:
        answers = Batch(device, asks).run()
    except DeviceMemoryFull as error:
        return str(error)
    except BaseException as error:
        # also what no search may bring down: the thread has to answer the others
        log.exception("%s failed", device.name)
        for ask in asks:
            ask.future.set_exception(error)
    else:
        for ask, result in zip(asks, answers, strict=True):
            ask.future.set_result(result)
    return ""


def _is_waited_for(ask: Ask) -> bool:
    if not ask.future.set_running_or_notify_cancel():
        return False
    try:
        ask.cancel.check()
    except InsigniaError as error:
        ask.future.set_exception(error)
        return False
    return True
