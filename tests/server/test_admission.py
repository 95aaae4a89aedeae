import asyncio
import threading

import pytest

from insignia_index import CancelToken
from insignia_model.errors import Overloaded, SearchCancelled
from insignia_server.admission import Lane

TIMEOUT_S = 10


@pytest.fixture
def lane():
    lanes = []

    def make(**settings):
        lanes.append(Lane("test", **{"max_concurrent": 1, "max_queued": 10} | settings))
        return lanes[-1]

    yield make
    for lane in lanes:
        lane.close()


class Work:
    """Work that begins, waits until it is told to end or is cancelled, and remembers in which order."""

    def __init__(self):
        self.order = []
        self.threads = []
        self.began = threading.Semaphore(0)
        self.end = threading.Semaphore(0)

    def __call__(self, name, token):
        def work(threads):
            self.order.append(name)
            self.threads.append(threads)
            self.began.release()
            while not self.end.acquire(timeout=0.001):
                token.check()
            return name

        return work

    def start(self, lane, name, token=None):
        token = token or CancelToken()
        return asyncio.create_task(lane.run(self(name, token), token))

    async def has_begun(self):
        assert await asyncio.to_thread(self.began.acquire, timeout=TIMEOUT_S)


async def settled():
    for _ in range(3):
        await asyncio.sleep(0)


async def until(condition):
    async with asyncio.timeout(TIMEOUT_S):
        while not condition():
            await asyncio.sleep(0.001)


async def test_waiting_work_is_done_in_the_order_it_came(lane):
    lane, work = lane(), Work()
    tasks = [work.start(lane, i) for i in range(5)]
    await settled()
    assert lane.load == (1, 4)
    for _ in tasks:
        work.end.release()
    assert await asyncio.gather(*tasks) == [0, 1, 2, 3, 4]
    assert work.order == [0, 1, 2, 3, 4]
    assert lane.load == (0, 0)


async def test_no_more_than_the_limit_run_at_once(lane):
    lane, work = lane(max_concurrent=2), Work()
    tasks = [work.start(lane, i) for i in range(4)]
    await work.has_begun()
    await work.has_begun()
    assert lane.load == (2, 2)
    assert not work.began.acquire(timeout=0.02)
    for _ in tasks:
        work.end.release()
    await asyncio.gather(*tasks)


async def test_work_beyond_the_queue_is_refused_at_once_and_the_rest_unharmed(lane):
    lane, work = lane(max_queued=1), Work()
    tasks = [work.start(lane, i) for i in range(3)]
    with pytest.raises(Overloaded) as caught:
        await tasks[2]
    assert caught.value.data == {"limit": "1"}
    work.end.release(2)
    assert await asyncio.gather(*tasks[:2]) == [0, 1]


async def test_admitted_work_waits_even_where_the_queue_is_full(lane):
    lane, work, token = lane(max_queued=0), Work(), CancelToken()
    first = work.start(lane, 1)
    await settled()
    second = asyncio.create_task(lane.run(work(2, token), token, admitted=True))
    await settled()
    work.end.release(2)
    assert await asyncio.gather(first, second) == [1, 2]


async def test_work_alone_has_all_threads_and_in_company_its_share(lane):
    lane, work = lane(max_concurrent=3, threads=8), Work()
    tasks = []
    for i in range(3):
        tasks.append(work.start(lane, i))
        await work.has_begun()
    assert work.threads == [8, 4, 2]
    tasks += [work.start(lane, i) for i in range(3, 12)]
    await settled()
    work.end.release()
    await work.has_begun()
    assert work.threads[3] == 1
    work.end.release(20)
    await asyncio.gather(*tasks)


async def test_waiting_work_whose_caller_goes_is_never_done(lane):
    lane, work = lane(), Work()
    first, dropped, last = (work.start(lane, i) for i in range(3))
    await settled()
    dropped.cancel()
    with pytest.raises(asyncio.CancelledError):
        await dropped
    assert lane.load == (1, 1)
    work.end.release(2)
    assert await asyncio.gather(first, last) == [0, 2]
    assert work.order == [0, 2]


async def test_running_work_whose_caller_goes_is_stopped_and_its_place_is_free_when_it_has_ended(lane):
    lane, work, token = lane(), Work(), CancelToken()
    task = work.start(lane, 0, token)
    waiting = work.start(lane, 1)
    await work.has_begun()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with pytest.raises(SearchCancelled):
        token.check()
    await work.has_begun()
    work.end.release()
    assert await waiting == 1
    assert lane.load == (0, 0)


async def test_work_dropped_as_a_worker_takes_it_is_counted_once(lane):
    lane = lane()
    for _ in range(300):
        token = CancelToken()
        task = asyncio.create_task(lane.run(lambda threads: None, token))
        await asyncio.sleep(0)
        task.cancel()  # about now a worker takes it
        await asyncio.wait([task])
    await until(lambda: lane.load == (0, 0))


async def test_an_error_of_the_work_reaches_its_caller_and_frees_its_place(lane):
    lane = lane()

    def fail(threads):
        raise ValueError("broken")

    for _ in range(3):
        with pytest.raises(ValueError, match="broken"):
            await lane.run(fail, CancelToken())
    assert lane.load == (0, 0)


async def test_close_waits_for_the_work_that_runs():
    lane, work, token = Lane("test", max_concurrent=1, max_queued=1), Work(), CancelToken()
    task = asyncio.create_task(lane.run(work(0, token), token))
    await work.has_begun()
    closing = asyncio.create_task(asyncio.to_thread(lane.close))
    done, _ = await asyncio.wait([closing], timeout=0.02)
    assert not done
    work.end.release()
    assert await task == 0
    await closing


async def test_tidying_up_is_done_by_a_worker(lane):
    lane, done = lane(), threading.Event()
    lane.afterwards(done.set)
    assert await asyncio.to_thread(done.wait, TIMEOUT_S)
    await until(lambda: lane.load == (0, 0))
