"""Loss as data: accounts, records of new loss, what --fail-on-loss asks."""

from __future__ import annotations

from ig_py.runtime.loss import Account, LossReport, account


def counters(emitted: int, lost: int | None) -> dict[str, object]:
    return {"received": emitted, "emitted": emitted, "discarded": 0, "lost": lost}


def test_account_takes_the_unwritten_from_the_emitted() -> None:
    (entry,) = account({"open": counters(10, 3)}, {"open": 4})  # type: ignore[dict-item]
    assert entry == Account("open", 6, 3, 4)
    assert entry.missing == 7
    assert entry.summary() == "open: 6 events emitted, 7 lost"


def test_what_nobody_counts_is_not_zero() -> None:
    (entry,) = account({"open": counters(10, None)}, {})  # type: ignore[dict-item]
    assert entry.summary() == "open: 10 events emitted, lost: not measurable"
    report = LossReport()
    assert report.records([entry]) == []
    assert not report.lossless


def test_unwritten_is_known_even_then() -> None:
    entry = Account("open", 8, None, 2)
    assert entry.summary() == "open: 8 events emitted, lost: not measurable, 2 not written"
    (record,) = LossReport().records([entry])
    assert (record["lost"], record["measurable"]) == (2, False)


def test_records_say_what_is_new_and_stay_silent_otherwise() -> None:
    report = LossReport()
    assert report.records([Account("a", 1, 0, 0), Account("b", 1, 0, 0)]) == []
    assert report.lossless
    (first,) = report.records([Account("a", 2, 5, 1), Account("b", 1, 0, 0)])
    assert {k: first[k] for k in ("type", "datasource", "new", "lost", "unwritten", "emitted")} == {
        "type": "loss",
        "datasource": "a",
        "new": 6,
        "lost": 6,
        "unwritten": 1,
        "emitted": 2,
    }
    assert report.records([Account("a", 9, 5, 1), Account("b", 1, 0, 0)]) == []
    (second,) = report.records([Account("a", 9, 8, 1), Account("b", 1, 0, 0)])
    assert (second["new"], second["lost"]) == (3, 9)
    assert not report.lossless
