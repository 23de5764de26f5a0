"""A ledger in the shop's own database, through Django's connections."""

import contextlib
from collections.abc import Iterator
from typing import Any, Final

from django.db import DEFAULT_DB_ALIAS, Error
from django.db.backends.base.base import BaseDatabaseWrapper

from ..._ledger.base import GRACE_SECONDS, LEASE_SECONDS, Apply, StoredLedger
from ..._ledger.rows import Transaction
from ..._loan import Application, Begun
from ...credentials import Environment
from ...errors import ConfigurationError, LedgerError
from ...postbacks.settings import as_seconds
from .._sql.failures import description
from .transactions import connection_of, own_transaction, refuse_to_nest

PATIENCE_SECONDS: Final = 5.0
HANDLER_SECONDS: Final = 5.0
VERSION: Final = 1


class DjangoLedger(StoredLedger):
    """A ``Ledger`` in one of ``DATABASES``: SQLite on one machine, PostgreSQL for any number.

    Every method is one transaction, committed to disk before it returns, on this thread's connection, which
    is left as it was found. Inside a transaction of the shop's the ledger reads and refuses to write, except
    ``once``. The tables come with ``manage.py migrate``.

    Args:
        environment: the one whose orders are kept; the tables belong to one environment.
        apply: ``def apply(connection, decision)``: what to do with a decision. It runs in the ledger's
            transaction, so that what it writes through the ORM to the same database takes effect exactly
            once.
        using: the alias of the database.
        lease: seconds that a claimed decision is left alone.
        grace: seconds after its deadline before an application can be resolved as absent.
        patience: seconds that a statement may take on PostgreSQL, or wait for a lock.
        handler_seconds: the same inside ``apply``. On SQLite, where it keeps other writers out, all of it is
            rolled back after so long.

    Raises:
        ConfigurationError: a setting that cannot be right.

    """

    def __init__(
        self,
        *,
        environment: Environment | str,
        apply: Apply | None = None,
        using: str = DEFAULT_DB_ALIAS,
        lease: float = LEASE_SECONDS,
        grace: float = GRACE_SECONDS,
        patience: float = PATIENCE_SECONDS,
        handler_seconds: float = HANDLER_SECONDS,
    ) -> None:
        """Check the settings; nothing is opened before the first call."""
        super().__init__(environment=environment, apply=apply, lease=lease, grace=grace)
        self._using = using
        self._identity = f"django:{using}"
        self._patience = as_seconds("patience", patience)
        self._handler_seconds = as_seconds("handler_seconds", handler_seconds)
        self._is_checked = False

    @property
    def using(self) -> str:
        """The alias of the database."""
        return self._using

    def check(self) -> None:
        """Check what needs no connection.

        Raises:
            ConfigurationError: the database is neither SQLite nor PostgreSQL.

        """
        connection_of(self._using)

    def begin(self, application: Application, *, timeout: float | None = None) -> Begun:
        """Commit the intent to apply, or say why nothing may be sent.

        Raises:
            LedgerError: the database failed, and the order is as it was, unless the error is ``uncertain``.
            ConfigurationError: called inside a transaction, which would be committed too late.

        """
        refuse_to_nest(connection_of(self._using))
        return super().begin(application, timeout=timeout)

    @contextlib.contextmanager
    def transaction(
        self,
        *,
        write: bool,
        timeout: float | None = None,
        connection: Any = None,  # noqa: ANN401 - Django's proxy or the connection behind it
        handler: bool = False,
    ) -> Iterator[Transaction]:
        """Open a transaction, or use that of the shop's ``connection``."""
        if connection is not None:
            with self._shops(connection, write=write) as own:
                yield own
            return
        seconds = self._handler_seconds if handler else min(timeout or self._patience, self._patience)
        with own_transaction(self._using, write=write, timeout=seconds, handler=handler) as opened:
            yield self._checked(opened, write=write)

    @contextlib.contextmanager
    def _shops(self, connection: Any, *, write: bool) -> Iterator[Transaction]:  # noqa: ANN401 - as above
        alias = getattr(connection, "alias", None)
        if alias != self._using:
            msg = f"connection must be django.db.connections[{self._using!r}], where the ledger is"
            raise ConfigurationError(msg)
        opened = connection_of(self._using)
        if write and not opened.in_atomic_block:
            msg = "once() needs a transaction: call it inside transaction.atomic()"
            raise ConfigurationError(msg)
        try:
            yield self._checked(opened, write=write)
        except Error as error:
            raise LedgerError(description(error)) from None

    def _checked(self, connection: BaseDatabaseWrapper, *, write: bool) -> Transaction:
        from .models import Version  # noqa: PLC0415 - models need the apps to be ready
        from .storage import DjangoTransaction  # noqa: PLC0415 - the same

        if not self._is_checked:
            versions = Version.objects.using(connection.alias)
            found = before = versions.first()
            if found is None and write:
                row = Version(
                    id=1, version=VERSION, compatible_with=VERSION, environment=self.environment.value
                )
                versions.bulk_create([row], ignore_conflicts=True)
                found = versions.first()  # another process may have come first
            if found is not None and found.environment != self.environment.value:
                msg = f"these tables belong to the environment {found.environment}; each needs its own"
                raise LedgerError(msg)
            self._is_checked = before is not None  # one that was inserted now may still be rolled back
        return DjangoTransaction(connection)
