"""Lines of access logs on their way: gathered by destination, taken away once."""

from __future__ import annotations

from s3lite.catalog.questions import WaitingLines


def waiting(catalog):
    with catalog.read() as tx:
        return tx.waiting_lines()


def test_lines_wait_by_destination_and_go_once(catalog):
    def work(tx):
        tx.add_log_lines("b", b"one\n", at_ms=5)
        tx.add_log_lines("a", b"\xff\0\n", at_ms=7)
        tx.add_log_lines("b", b"two\n", at_ms=6)

    catalog.write(work)
    assert waiting(catalog) == [WaitingLines("a", 7, 3), WaitingLines("b", 5, 8)]
    with catalog.read() as tx:
        (first, line), (second, _) = tx.log_lines("b", limit=9)
        assert tx.log_lines("b", limit=1) == [(first, b"one\n")]
        assert tx.log_lines("a", limit=9)[0][1] == b"\xff\0\n"
    assert line == b"one\n"
    assert catalog.write(lambda tx: tx.remove_log_lines([first, second])) == 2
    assert catalog.write(lambda tx: tx.remove_log_lines([first, second])) == 0
    assert waiting(catalog) == [WaitingLines("a", 7, 3)]


def test_old_lines_are_forgotten_in_slices(catalog):
    catalog.write(lambda tx: [tx.add_log_lines("a", b"x", at_ms=at) for at in range(5)])
    assert catalog.write(lambda tx: tx.forget_log_lines(before_ms=4, limit=3)) == 3
    assert catalog.write(lambda tx: tx.forget_log_lines(before_ms=4, limit=3)) == 1
    assert waiting(catalog) == [WaitingLines("a", 4, 1)]
