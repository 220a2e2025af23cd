"""The stores on Redis 6.2 and newer, or Valkey: scripts, connection, ledger and profiles."""
