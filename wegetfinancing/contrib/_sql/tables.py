"""The ledger's tables. Columns are those of the rows; amounts and lists are texts, times epoch seconds."""

from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    and_,
    or_,
)
from sqlalchemy.engine import Connection

from ..._ledger import rows
from ..._ledger.rules import PREAPPROVED

VERSION: Final = 1
"""The version of the tables that this code writes."""

OLDEST_VERSION: Final = 1
"""The oldest version of the tables that this code still works with, for rolling deploys."""

_ID = BigInteger().with_variant(Integer, "sqlite")

metadata: Final = MetaData()

meta: Final = Table(
    "wgf_meta",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("version", Integer, nullable=False),
    # The oldest version of the code that works with these tables: a newer one may still be deployed.
    Column("compatible_with", Integer, nullable=False),
    Column("environment", String(20), nullable=False),
    CheckConstraint("id = 1", name="wgf_meta_one_row"),
)

loan: Final = Table(
    "wgf_loan",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("merchant_id", String(64), nullable=False),
    Column("order_id", Text, nullable=False),
    Column("state", String(20), nullable=False),
    Column("token", String(64)),
    Column("fingerprint", String(64)),
    Column("expected_amount", String(40)),
    Column("taxes", String(40)),
    Column("inv_id", Text),
    Column("href", Text),
    Column("amount", String(40)),
    Column("deadline", Float(53), nullable=False),
    Column("created_at", Float(53), nullable=False),
    Column("updated_at", Float(53), nullable=False),
    Column("status", String(20)),
    Column("signed_at", Float(53)),
    Column("refunded", String(40), nullable=False),
    Column("noted", Text, nullable=False),
    Column("accepted", Text, nullable=False),
    Column("forgotten", Boolean, nullable=False),
    Column("may_ship", Boolean, nullable=False),
    Column("holds", Text, nullable=False),
    UniqueConstraint("merchant_id", "order_id", name="wgf_loan_order"),
    sqlite_autoincrement=True,
)
_in_doubt = loan.c.state.in_([rows.SENDING, rows.UNKNOWN])
Index("wgf_loan_order_id", loan.c.order_id)
Index("wgf_loan_inv_id", loan.c.merchant_id, loan.c.inv_id)
Index("wgf_loan_in_doubt", loan.c.deadline, sqlite_where=_in_doubt, postgresql_where=_in_doubt)
_held = loan.c.holds != "[]"
Index("wgf_loan_held", loan.c.id, sqlite_where=_held, postgresql_where=_held)
undecided: Final = and_(
    loan.c.state == rows.CREATED, or_(loan.c.status.is_(None), loan.c.status == PREAPPROVED)
)
Index("wgf_loan_undecided", loan.c.created_at, sqlite_where=undecided, postgresql_where=undecided)
Index("wgf_loan_updated_at", loan.c.updated_at)

inv: Final = Table(
    "wgf_inv",
    metadata,
    Column("merchant_id", String(64), primary_key=True),
    Column("inv_id", Text, primary_key=True),
    Column("loan_id", _ID, ForeignKey("wgf_loan.id")),
)

decision: Final = Table(
    "wgf_decision",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("merchant_id", String(64), nullable=False),
    Column("inv_id", Text, nullable=False),
    Column("order_id", Text),
    Column("loan_id", _ID, ForeignKey("wgf_loan.id")),
    Column("state", String(20), nullable=False),
    Column("status", String(20), nullable=False),
    Column("reported_status", Text),
    Column("amount", String(40)),
    Column("version", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("digest", String(64), nullable=False),
    Column("signed_at", Float(53)),
    Column("received_at", Float(53), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("due", Float(53), nullable=False),
    Column("lease", String(64)),
    Column("lease_until", Float(53), nullable=False),
    Column("error", Text),
    Column("handled_at", Float(53)),
    UniqueConstraint("merchant_id", "digest", name="wgf_decision_delivery"),
    sqlite_autoincrement=True,
)
_waiting = decision.c.state == rows.WAITING
_unmatched = decision.c.state == rows.UNMATCHED
Index("wgf_decision_loan", decision.c.loan_id, decision.c.id)
_by_merchant = (decision.c.merchant_id, decision.c.due, decision.c.id)
Index("wgf_decision_due", *_by_merchant, sqlite_where=_waiting, postgresql_where=_waiting)
_unmatched_inv = (decision.c.merchant_id, decision.c.inv_id)
_unmatched_order = (decision.c.merchant_id, decision.c.order_id)
Index("wgf_decision_inv", *_unmatched_inv, sqlite_where=_unmatched, postgresql_where=_unmatched)
Index("wgf_decision_order", *_unmatched_order, sqlite_where=_unmatched, postgresql_where=_unmatched)
_lost = and_(decision.c.state == rows.HELD, decision.c.loan_id.is_(None))
Index("wgf_decision_lost", decision.c.id, sqlite_where=_lost, postgresql_where=_lost)

worker: Final = Table(
    "wgf_worker",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("seen_at", Float(53), nullable=False),
)

_VIEW: Final = """
CREATE VIEW wgf_loan_status AS
SELECT merchant_id, order_id, inv_id, state, status, amount, expected_amount, refunded, may_ship, holds,
       forgotten, created_at, updated_at
FROM wgf_loan
"""


def create_view(connection: Connection) -> None:
    """Create the read-only view anew."""
    connection.exec_driver_sql("DROP VIEW IF EXISTS wgf_loan_status")
    connection.exec_driver_sql(_VIEW)
