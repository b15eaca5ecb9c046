"""Loss as data: accounts, records of new loss, what --fail-on-loss asks."""

from __future__ import annotations

from ig_py.runtime.budget import MountNamespace, Throttled
from ig_py.runtime.loss import MAX_LISTED, Account, LossReport, account


def counters(emitted: int, lost: int | None) -> dict[str, object]:
    return {
        "received": emitted,
        "emitted": emitted,
        "discarded": 0,
        "lost": lost,
        "lost_others": 0,
        "lost_unidentified": 0,
    }


def test_account_takes_the_unwritten_from_the_emitted() -> None:
    (entry,) = account({"open": counters(10, 3)}, {"open": 4}, {})  # type: ignore[dict-item]
    assert entry == Account("open", 6, 3, 4)
    assert entry.missing == 7
    assert entry.summary() == "open: 6 events emitted, 7 lost"


def test_uncounted_loss_is_not_zero() -> None:
    (entry,) = account({"open": counters(10, None)}, {}, {})  # type: ignore[dict-item]
    assert entry.summary() == "open: 10 events emitted, lost: not measurable"
    report = LossReport()
    assert report.records([entry]) == []
    assert not report.lossless


def test_unwritten_is_known_even_then() -> None:
    entry = Account("open", 8, None, 2)
    assert entry.summary() == "open: 8 events emitted, lost: not measurable, 2 not written"
    (record,) = LossReport().records([entry])
    assert (record["lost"], record["measurable"]) == (2, False)


def test_only_new_loss_is_logged() -> None:
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


def test_throttled_is_told_by_container_and_is_no_loss() -> None:
    web, stranger = MountNamespace(4026532001, "web"), MountNamespace(4026532002)
    throttled = Throttled(30, {stranger: 9, web: 20, MountNamespace(): 1})
    (entry,) = account({"open": counters(10, 0)}, {}, {"open": throttled})  # type: ignore[dict-item]
    assert entry.summary() == (
        "open: 10 events emitted, 0 lost, 30 throttled (web 20, mntns 4026532002 9, others 1)"
    )
    report = LossReport()
    (record,) = report.records([entry])
    assert (record["new"], record["throttled_new"], record["throttled"]) == (0, 30, 30)
    assert record["throttled_by"] == [
        {"mntns": 4026532001, "container": "web", "throttled": 20},
        {"mntns": 4026532002, "container": "", "throttled": 9},
        {"mntns": 0, "container": "", "throttled": 1},
    ]
    assert report.lossless
    assert report.records([entry]) == []
    throttled.total += 5
    throttled.by[web] += 5
    (record,) = report.records([entry])
    assert (record["throttled_new"], record["throttled"]) == (5, 35)


def test_a_budget_that_was_not_exceeded() -> None:
    entry = Account("open", 10, 0, 0, Throttled())
    assert entry.summary() == "open: 10 events emitted, 0 lost, 0 throttled"
    assert LossReport().records([entry]) == []


def test_a_loss_without_new_throttling_says_nothing_of_it() -> None:
    report = LossReport()
    throttled = Throttled(1, {MountNamespace(): 1})
    report.records([Account("open", 1, 0, 0, throttled)])
    (record,) = report.records([Account("open", 1, 4, 0, throttled)])
    assert record["new"] == 4
    assert not [key for key in record if key.startswith("throttled")]


def test_many_containers_over_budget_are_summed_up() -> None:
    by = {MountNamespace(n + 1, f"c{n:03}"): 2 for n in range(MAX_LISTED + 6)}
    entry = Account("open", 1, 0, 0, Throttled(2 * len(by), by))
    more = len(by) - 5
    assert entry.summary().endswith(
        f"212 throttled (c000 2, c001 2, c002 2, c003 2, c004 2, {more} more {2 * more})"
    )
    (record,) = LossReport().records([entry])
    assert len(record["throttled_by"]) == MAX_LISTED


def test_what_is_lost_of_others_is_told_apart_and_no_loss() -> None:
    entry = Account("open", 8, 0, 0, others=99)
    assert entry.missing == 0
    assert entry.summary() == "open: 8 events emitted, 0 lost, 99 lost of other namespaces"
    report = LossReport()
    assert report.records([entry]) == []
    assert report.lossless


def test_what_is_lost_of_unidentified_namespaces_counts_until_they_are_identified() -> None:
    entry = Account("open", 8, 1, 0, others=3, unidentified=4)
    assert entry.missing == 1
    assert entry.summary() == (
        "open: 8 events emitted, 1 lost, 3 lost of other namespaces,"
        " 4 lost of unidentified namespaces"
    )
    report = LossReport()
    (record,) = report.records([Account("open", 8, 0, 0, unidentified=4)])
    assert {key: record[key] for key in ("new", "lost", "others", "unidentified")} == {
        "new": 0,
        "lost": 0,
        "others": 0,
        "unidentified": 4,
    }
    assert not report.lossless, "they may be of a container that is selected"
    assert report.records([Account("open", 8, 0, 0, unidentified=4)]) == []
    assert report.records([Account("open", 8, 0, 0, others=3, unidentified=1)]) == []
    assert report.records([Account("open", 8, 0, 0, others=4)]) == []
    assert report.lossless
    (record,) = report.records([Account("open", 8, 1, 0, others=4)])
    assert (record["new"], record["lost"]) == (1, 1)
    assert not report.lossless


def test_a_sum_that_is_read_too_early_is_no_new_loss_later() -> None:
    report = LossReport()
    assert report.records([Account("open", 8, 5, 0)])[0]["new"] == 5
    assert report.records([Account("open", 8, 4, 0)]) == []
    assert report.records([Account("open", 8, 5, 0)]) == []
    assert report.records([Account("open", 8, 7, 0)])[0]["new"] == 2


def test_losses_of_any_container_are_called_so() -> None:
    (entry,) = account({"open": counters(8, 3)}, {}, {}, mixed={"open"})  # type: ignore[dict-item]
    assert entry.summary() == "open: 8 events emitted, 3 lost (of any container)"
    (entry,) = account({"open": counters(8, 0)}, {}, {}, mixed={"open"})  # type: ignore[dict-item]
    assert entry.summary() == "open: 8 events emitted, 0 lost"


def test_containers_that_were_not_seen_are_a_loss() -> None:
    entry = Account("open", 8, 0, 0, unseen=2)
    assert entry.summary() == "open: 8 events emitted, 0 lost, 2 containers or namespaces unseen"
    report = LossReport()
    report.records([entry])
    assert not report.lossless
