from shipway.loadtest.ticks import Tick


def test_a_tick_reads_back_from_its_line():
    tick = Tick(
        at=-0.5,
        answers=[(0.25, 12_000, 11_000, 9.5), (0.5, 10, 10, None)],
        errors=[(-1, "http", "503", "ServiceUnavailableException", "the queue is full\n", 3)],
        cpu=0.5,
        busy=0.75,
        lags_us=[80, 120],
        clients=2,
        waiting=1,
        last=True,
    )
    line = tick.line()
    assert line.endswith(b"\n") and line.count(b"\n") == 1
    found = Tick.read(line)
    assert [tuple(answer) for answer in found.answers] == tick.answers
    assert [tuple(error) for error in found.errors] == tick.errors
    assert (found.at, found.lags_us, found.last) == (-0.5, [80, 120], True)
