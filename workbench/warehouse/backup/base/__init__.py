"""PostgreSQL's base backups, full and incremental: how one is taken, and how two become a data folder again."""
