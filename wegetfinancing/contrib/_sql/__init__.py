"""What ``contrib.sqlalchemy`` is made of: tables, one transaction, engines."""
