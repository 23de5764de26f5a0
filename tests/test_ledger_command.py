"""``python -m wegetfinancing ledger``: what needs review, and what operators decide."""

import contextlib
import datetime as dt
import json
import sqlite3
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from wegetfinancing import CreatedRequest, Outcome, parse_postback
from wegetfinancing.__main__ import main
from wegetfinancing._extras import install_command
from wegetfinancing._loan import Application
from wegetfinancing.contrib.sqlalchemy import SQLLedger
from wegetfinancing.ledger import Decision, Loan
from wegetfinancing.testing import credentials, signed_postback


class ShopInAFile:
    """A shop's ledger in a file, and what its handler was told."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.url = f"sqlite:///{path}"
        self.told: list[str] = []
        self.is_broken = False
        self.ledger = SQLLedger(self.url, environment="sandbox", apply=self.apply)
        self.ledger.create_tables()

    def apply(self, _: object, decision: Decision) -> None:
        if self.is_broken:
            msg = "the handler fails"
            raise RuntimeError(msg)
        self.told.append(decision.postback.status)

    def begun(self, order_id: str, merchant_id: str = "1234") -> Application:
        intent = Application(
            merchant_id=merchant_id,
            order_id=order_id,
            token=f"{merchant_id} {order_id}",
            fingerprint="contents",
            expected_amount=Decimal("499.00"),
            taxes=Decimal(0),
            seconds=20.0,
        )
        self.ledger.begin(intent)
        return intent

    def created(self, order_id: str, amount: str | None = "499.00", merchant_id: str = "1234") -> None:
        value = None if amount is None else Decimal(amount)
        answer = CreatedRequest(inv_id=f"inv {order_id}", href="https://e.invalid/", amount=value, raw={})
        self.ledger.record_answer(self.begun(order_id, merchant_id), answer)

    def unknown(self, order_id: str) -> None:
        self.ledger.record_failure(self.begun(order_id), Outcome.UNKNOWN)

    def post(
        self, status: str, order_id: str, signed: int = 1, named: str | None = None, **settings: Any
    ) -> int:
        made = signed_postback(
            status,
            inv_id=f"inv {order_id}",
            timestamp=str(1_700_000_000 + signed),
            merchant_transaction_id=named,
            **settings,
        )
        signed_by = settings.get("credentials", credentials())
        return self.ledger.record(parse_postback(made.body, made.headers, signed_by)).id

    def handle_all(self) -> None:
        while (claim := self.ledger.claim()) is not None:
            self.ledger.apply(claim)

    def copies_of(self, order_id: str, number: int) -> None:
        """Let there be so many more loans like this one."""
        columns = "merchant_id, state, inv_id, deadline, created_at, updated_at, refunded, noted, accepted"
        columns += ", forgotten, may_ship, holds"
        connection = sqlite3.connect(self.path)
        with contextlib.closing(connection), connection:
            connection.executemany(
                f"INSERT INTO wgf_loan (order_id, {columns}) SELECT ?, {columns} FROM wgf_loan"  # noqa: S608 - the names above
                " WHERE order_id = ?",
                [(f"{order_id}-{each}", order_id) for each in range(number)],
            )

    def age(self, days: float) -> None:
        """Let everything have happened so many days earlier."""
        connection = sqlite3.connect(self.path)
        with connection:
            connection.execute(
                "UPDATE wgf_loan SET created_at = created_at - :by, updated_at = updated_at - :by,"
                " deadline = deadline - :by",
                {"by": days * 86_400},
            )
            connection.execute("UPDATE wgf_decision SET received_at = received_at - ?", (days * 86_400,))
        connection.close()

    def loan(self, order_id: str) -> Loan:
        loan = self.ledger.loan(order_id, merchant_id="1234")
        assert loan is not None
        return loan


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ShopInAFile]:
    monkeypatch.delenv("WEGETFINANCING_ENVIRONMENT", raising=False)
    made = ShopInAFile(tmp_path / "shop.db")
    yield made
    made.ledger.close()


def test_a_list_that_is_cut_off_says_so_and_has_what_may_exist(
    shop: ShopInAFile, capsys: pytest.CaptureFixture[str]
) -> None:
    shop.created("ORDER-1", amount=None)
    shop.copies_of("ORDER-1", 998)
    main(["ledger", shop.url])
    assert capsys.readouterr().err == ""
    shop.copies_of("ORDER-1-1", 1)
    shop.unknown("ORDER-2")
    assert main(["ledger", shop.url]) == 0
    told = capsys.readouterr()
    assert "order ORDER-2 of merchant" in told.out
    assert told.err == "there may be more: 1000 of a kind are listed\n"


def test_nothing_needs_review(shop: ShopInAFile, capsys: pytest.CaptureFixture[str]) -> None:
    shop.created("ORDER-1")
    shop.post("approved", "ORDER-1")
    shop.handle_all()
    assert main(["ledger", shop.url]) == 0
    assert capsys.readouterr().out == "nothing needs review\n"
    assert main(["ledger", shop.url, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"items": [], "too_long": False, "worker_alive": False}


def test_what_waits_is_listed_with_what_ends_it(
    shop: ShopInAFile, capsys: pytest.CaptureFixture[str]
) -> None:
    shop.unknown("ORDER-1")
    shop.created("ORDER-2")
    shop.age(8)
    shop.created("ORDER-3")
    shop.post("rejected", "ORDER-3", signed=2)
    shop.post("approved", "ORDER-3", signed=1)
    stray = shop.post("approved", "ORDER-of-another-system")
    shop.is_broken = True
    shop.handle_all()
    assert main(["ledger", shop.url]) == 1
    printed = capsys.readouterr().out
    assert "order ORDER-1 of merchant 1234: unknown, for 7 days  TOO LONG\n" in printed
    assert "-> wegetfinancing ledger URL adopt ORDER-1 INV_ID AMOUNT " in printed
    assert "-> wegetfinancing ledger URL resolve ORDER-1 " in printed
    assert (
        "order ORDER-2 of merchant 1234: created, for 8 days  TOO LONG\n    created, and no final" in printed
    )
    assert (
        "order ORDER-3 of merchant 1234: created, rejected, for 0 minutes\n    conflict:2: approved "
        in printed
    )
    assert "-> wegetfinancing ledger URL accept ORDER-3 conflict:2 " in printed
    assert "-> wegetfinancing ledger URL accept --apply ORDER-3 HOLD " in printed
    assert f"decision {stray} (approved, inv ORDER-of-another-system) of merchant 1234: unmatched" in printed
    assert f"-> wegetfinancing ledger URL dismiss {stray} " in printed
    assert (
        "decision 1 (rejected, inv ORDER-3) of order ORDER-3 of merchant 1234: waiting, for 0 minutes\n"
        in printed
    )
    assert "the handler was called once, last with RuntimeError; next at " in printed
    assert "-> wegetfinancing ledger URL retry 1 " in printed
    assert printed.endswith("handles what waits\n")
    assert printed.index("ORDER-2") < printed.index("ORDER-3")  # the oldest first


def test_a_decision_that_no_worker_has_seen_is_not_said_to_have_failed(
    shop: ShopInAFile, capsys: pytest.CaptureFixture[str]
) -> None:
    shop.created("ORDER-1")
    shop.post("approved", "ORDER-1")
    shop.age(0.5)
    assert main(["ledger", shop.url]) == 0
    printed = capsys.readouterr().out
    assert "\n    no handler has been called for it yet; due since " in printed
    assert printed.splitlines()[-1].startswith("no worker is alive: ")
    assert "->" not in printed


def test_an_amount_that_nobody_has_seen_is_asked_for(
    shop: ShopInAFile, capsys: pytest.CaptureFixture[str]
) -> None:
    shop.created("ORDER-1", amount=None)
    main(["ledger", shop.url])
    assert "-> wegetfinancing ledger URL adopt ORDER-1 'inv ORDER-1' AMOUNT " in capsys.readouterr().out
    assert main(["ledger", shop.url, "adopt", "ORDER-1", "inv ORDER-1", "500.00"]) == 0
    main(["ledger", shop.url])
    printed = capsys.readouterr().out
    assert "amount_differs:500.00: The vendor finances $500.00, and $499.00 was expected." in printed
    assert "adopt" not in printed


def test_an_unmatched_decision_is_adopted_under_the_order_that_it_names(
    shop: ShopInAFile, capsys: pytest.CaptureFixture[str]
) -> None:
    shop.post("approved", "ORDER-1", named="ORDER 1")
    assert main(["ledger", shop.url]) == 0
    printed = capsys.readouterr().out
    assert "-> wegetfinancing ledger URL adopt 'ORDER 1' 'inv ORDER-1' AMOUNT " in printed


def test_a_decision_that_names_two_orders_is_listed_with_both(
    shop: ShopInAFile, capsys: pytest.CaptureFixture[str]
) -> None:
    shop.created("ORDER-1")
    shop.created("ORDER-2")
    shop.post("approved", "ORDER-1", named="ORDER-2")
    assert main(["ledger", shop.url]) == 0
    printed = capsys.readouterr().out
    assert printed.count("-> wegetfinancing ledger URL accept ORDER-") == 2
    assert "decision 1 (approved, inv ORDER-1) of order ORDER-2 of merchant 1234: held" in printed
    assert "names two orders" in printed


def test_programs_read_it_as_json(shop: ShopInAFile, capsys: pytest.CaptureFixture[str]) -> None:
    shop.created("ORDER-1", amount=None)
    shop.post("refund", "ORDER-1", amount="12.50")
    assert main(["ledger", shop.url, "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    (order,) = shown["items"]
    assert order["order"] == "ORDER-1"
    assert (order["amount"], order["expected_amount"], order["refunded"]) == (None, "499.00", "12.50")
    assert [each["id"] for each in order["holds"]] == ["amount_not_seen", "refund:1"]
    assert dt.datetime.fromisoformat(order["since"]).tzinfo is dt.UTC
    assert shown["too_long"] is order["too_long"] is False


@pytest.mark.parametrize(("hours", "status"), [("72", 0), ("24", 1)])
def test_the_exit_status_says_whether_something_waits_too_long(
    shop: ShopInAFile, capsys: pytest.CaptureFixture[str], hours: str, status: int
) -> None:
    shop.unknown("ORDER-1")
    shop.age(2)
    assert main(["ledger", shop.url, "--too-long", hours]) == status
    assert "for 47 hours" in capsys.readouterr().out


def test_an_application_is_undecided_after_as_many_days_as_are_asked_for(
    shop: ShopInAFile, capsys: pytest.CaptureFixture[str]
) -> None:
    shop.created("ORDER-1")
    shop.age(2)
    assert main(["ledger", shop.url]) == 0
    assert main(["ledger", shop.url, "--undecided-days", "1"]) == 1
    assert "ORDER-1" in capsys.readouterr().out


def test_an_absent_order_is_closed(shop: ShopInAFile, capsys: pytest.CaptureFixture[str]) -> None:
    shop.unknown("ORDER-1")
    assert main(["ledger", shop.url, "resolve", "ORDER-1"]) == 2
    assert "may still be on its way; ask again in 6" in capsys.readouterr().err
    shop.age(1)
    assert main(["ledger", shop.url, "resolve", "ORDER-1"]) == 0
    assert "under a new order ID" in capsys.readouterr().out
    assert shop.loan("ORDER-1").state.value == "absent"


def test_an_application_that_was_found_is_adopted(
    shop: ShopInAFile, capsys: pytest.CaptureFixture[str]
) -> None:
    shop.unknown("ORDER-1")
    with pytest.raises(SystemExit) as refused:
        main(["ledger", shop.url, "adopt", "ORDER-1", "inv ORDER-1", "$499"])
    assert refused.value.code == 2
    assert "AMOUNT: must be US dollars such as 499.00, without a currency sign" in capsys.readouterr().err
    assert main(["ledger", shop.url, "adopt", "ORDER-1", "inv ORDER-1", "499"]) == 0
    assert capsys.readouterr().out == "ORDER-1 is inv ORDER-1; open holds: none; may ship: no\n"
    assert shop.loan("ORDER-1").amount == 499


def test_the_named_holds_are_accepted(shop: ShopInAFile, capsys: pytest.CaptureFixture[str]) -> None:
    shop.created("ORDER-1", amount=None)
    shop.post("approved", "ORDER-1")
    shop.post("refund", "ORDER-1", amount="12.50")
    shop.handle_all()
    assert main(["ledger", shop.url, "accept", "ORDER-1", "refund:1"]) == 2
    assert "no hold 'refund:1' now; look again" in capsys.readouterr().err
    assert main(["ledger", shop.url, "accept", "ORDER-1", "refund:2"]) == 0
    assert capsys.readouterr().out == "accepted; open holds: amount_not_seen; may ship: no\n"
    assert main(["ledger", shop.url, "accept", "ORDER-1", "amount_not_seen"]) == 0
    assert capsys.readouterr().out == "accepted; open holds: none; may ship: yes\n"


def test_a_held_decision_counts_if_the_operator_says_so(shop: ShopInAFile) -> None:
    shop.created("ORDER-1")
    shop.post("approved", "ORDER-1")
    shop.post("rejected", "ORDER-1")
    assert main(["ledger", shop.url, "accept", "--apply", "ORDER-1", "conflict:2"]) == 0
    shop.handle_all()
    assert shop.told == ["approved", "rejected"]


def test_how_often_a_handler_has_failed_is_listed(
    shop: ShopInAFile, capsys: pytest.CaptureFixture[str]
) -> None:
    shop.created("ORDER-1")
    number = shop.post("approved", "ORDER-1")
    shop.is_broken = True
    shop.handle_all()
    shop.ledger.retry(number)
    shop.handle_all()
    assert main(["ledger", shop.url]) == 0
    assert "the handler was called 2 times, last with RuntimeError" in capsys.readouterr().out


def test_a_failing_decision_is_retried_and_one_can_be_dismissed(
    shop: ShopInAFile, capsys: pytest.CaptureFixture[str]
) -> None:
    shop.created("ORDER-1")
    first, second = shop.post("preapproved", "ORDER-1"), shop.post("approved", "ORDER-1", signed=2)
    shop.is_broken = True
    shop.handle_all()
    shop.is_broken = False
    shop.handle_all()
    assert shop.told == []  # it pauses
    assert main(["ledger", shop.url, "forget", "ORDER-1"]) == 2
    assert "still waits for its handler; retry it or dismiss it first" in capsys.readouterr().err
    assert main(["ledger", shop.url, "retry", str(first)]) == 0
    assert capsys.readouterr().out == "decision 1 is due now; no worker is alive: start one with run_worker\n"
    assert main(["ledger", shop.url, "dismiss", str(second)]) == 0
    shop.ledger.beat("worker")
    assert main(["ledger", shop.url, "retry", str(first)]) == 0
    assert "decision 1 is due now\n" in capsys.readouterr().out
    shop.handle_all()
    assert shop.told == ["preapproved"]
    assert main(["ledger", shop.url, "retry", str(first)]) == 2
    assert "the decision is handled" in capsys.readouterr().err
    assert main(["ledger", shop.url, "forget", "ORDER-1"]) == 0


def test_details_are_erased(shop: ShopInAFile, capsys: pytest.CaptureFixture[str]) -> None:
    for order_id in ("ORDER-1", "ORDER-2"):
        shop.created(order_id)
    assert main(["ledger", shop.url, "forget", "ORDER-1"]) == 0
    assert shop.loan("ORDER-1").forgotten
    shop.age(31)
    assert main(["ledger", shop.url, "purge", "--older-than", "30"]) == 0
    assert capsys.readouterr().out.endswith("orders whose details were erased: 1\n")
    assert shop.loan("ORDER-2").forgotten


def test_merchants_are_told_apart(shop: ShopInAFile, capsys: pytest.CaptureFixture[str]) -> None:
    shop.created("ORDER-1", amount=None)
    shop.created("ORDER-1", amount=None, merchant_id="5678")
    assert main(["ledger", shop.url, "--merchant", "5678"]) == 0
    printed = capsys.readouterr().out
    assert "merchant 5678" in printed
    assert "merchant 1234" not in printed
    assert "-> wegetfinancing ledger URL --merchant 5678 accept ORDER-1 amount_not_seen " in printed
    assert main(["ledger", shop.url]) == 0
    printed = capsys.readouterr().out
    for merchant in ("1234", "5678"):
        assert f"ledger URL --merchant {merchant} accept ORDER-1 amount_not_seen " in printed
    assert main(["ledger", shop.url, "accept", "ORDER-1", "amount_not_seen"]) == 2
    assert "merchant_id=...; here --merchant ID" in capsys.readouterr().err
    assert main(["ledger", shop.url, "--merchant", "5678", "accept", "ORDER-1", "amount_not_seen"]) == 0
    assert shop.loan("ORDER-1").held != ()
    assert main(["ledger", shop.url, "accept", "--merchant", "1234", "ORDER-1", "amount_not_seen"]) == 0
    assert shop.loan("ORDER-1").held == ()


def test_a_decision_and_old_loans_of_another_merchant_are_left_alone(
    shop: ShopInAFile, capsys: pytest.CaptureFixture[str]
) -> None:
    shop.created("ORDER-1")
    shop.created("ORDER-1", merchant_id="5678")
    shop.post("approved", "ORDER-1")
    for command in ("retry", "dismiss"):
        assert main(["ledger", shop.url, "--merchant", "5678", command, "1"]) == 2
        assert "does not know this decision" in capsys.readouterr().err
    assert main(["ledger", shop.url, "--merchant", "1234", "dismiss", "1"]) == 0
    shop.age(31)
    assert main(["ledger", shop.url, "--merchant", "5678", "purge", "--older-than", "30"]) == 0
    assert capsys.readouterr().out.endswith("orders whose details were erased: 1\n")
    assert not shop.loan("ORDER-1").forgotten


def test_a_merchant_without_an_order_is_one_of_several(
    shop: ShopInAFile, capsys: pytest.CaptureFixture[str]
) -> None:
    """Or the order would be adopted for the wrong one."""
    shop.created("ORDER-1")
    shop.post("approved", "ORDER-2", credentials=credentials(merchant_id="5678"))
    assert main(["ledger", shop.url]) == 0
    assert "-> wegetfinancing ledger URL --merchant 5678 adopt ORDER 'inv ORDER-2' AMOUNT " in (
        capsys.readouterr().out
    )


def test_the_environment_is_that_of_the_tables(
    shop: ShopInAFile, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["ledger", shop.url, "--environment", "live"]) == 2
    assert "belong to the environment sandbox" in (told := capsys.readouterr().err)
    assert told.endswith("; choose it with --environment\n")
    monkeypatch.setenv("WEGETFINANCING_ENVIRONMENT", "live")
    assert main(["ledger", shop.url]) == 2
    assert main(["ledger", "--environment", "sandbox", shop.url]) == 0


def test_an_order_that_is_not_there(shop: ShopInAFile, capsys: pytest.CaptureFixture[str]) -> None:
    shop.created("ORDER-1")
    assert main(["ledger", shop.url, "forget", "ORDER-2"]) == 2
    told = capsys.readouterr().err
    assert told.startswith("wegetfinancing: the ledger does not know this order; is its ID right")


def test_what_cannot_be_done_is_said_with_what_can(
    shop: ShopInAFile, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments, remedy in (
        (["adopt", "ORDER-1", "inv"], "here --merchant ID"),
        (["dismiss", "99"], "the list shows the numbers"),
        (["adopt", "--merchant", "1234", "ORDER-1", "inv"], ""),
        (["resolve", "ORDER-1"], "only one that is sending or unknown can be absent"),
    ):
        assert main(["ledger", shop.url, *arguments]) == (2 if remedy else 0)
        assert remedy in capsys.readouterr().err
    shop.post("approved", "another")
    assert main(["ledger", shop.url, "retry", "1"]) == 2
    assert "adopt its order if it is unmatched" in capsys.readouterr().err


def test_a_database_without_a_ledger_is_named_and_not_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "typo.db"
    assert main(["ledger", f"sqlite:///{path}"]) == 2
    assert capsys.readouterr().err == f"wegetfinancing: there is no file {str(path)!r}\n"
    assert not path.exists()
    path.touch()
    assert main(["ledger", f"sqlite:///{path}"]) == 2
    assert "call create_tables() once, or migrate; is the URL right?" in capsys.readouterr().err
    path.write_text("not a database")
    assert main(["ledger", f"sqlite:///{path}"]) == 2
    assert "is it there and running, and may this user write to it?" in capsys.readouterr().err


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+psycopg://me:canary@127.0.0.1:1/shop",
        "postgresql+psycopg://me:an@canary:of@host/shop",
        "mysql://me:canary@host/shop",
        "canary",
    ],
)
def test_no_password_is_shown(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ledger", url]) == 2
    told = capsys.readouterr()
    assert told.err.startswith("wegetfinancing: ")
    assert "canary" not in told.out + told.err


@pytest.mark.parametrize("missing", ["sqlalchemy", "psycopg"])
def test_a_missing_library_is_named_with_the_command_that_installs_it(
    missing: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [each for each in sys.modules if each.partition(".")[0] == missing]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules, "wegetfinancing.contrib.sqlalchemy", raising=False)
    monkeypatch.setitem(sys.modules, missing, None)
    assert main(["ledger", "postgresql+psycopg://host/shop"]) == 2
    assert f"{missing} is missing; {install_command('sql')}\n" in capsys.readouterr().err


@pytest.mark.parametrize("days", ["-1", "nan", "1e9", "week"])
def test_a_duration_is_a_number(days: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exited:
        main(["ledger", "sqlite:///shop.db", "purge", "--older-than", days])
    assert exited.value.code == 2
    assert "--older-than" in capsys.readouterr().err
