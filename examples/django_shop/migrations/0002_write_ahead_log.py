"""Let SQLite use its write-ahead log, so that readers do not keep writers out. The file remembers it."""

from typing import Any

from django.db import migrations


def use_write_ahead_log(_: Any, editor: Any) -> None:
    if editor.connection.vendor == "sqlite":
        editor.execute("PRAGMA journal_mode = WAL")


class Migration(migrations.Migration):
    """It is changed outside of any transaction."""

    atomic = False
    dependencies = [("django_shop", "0001_initial")]
    operations = [migrations.RunPython(use_write_ahead_log, migrations.RunPython.noop)]
