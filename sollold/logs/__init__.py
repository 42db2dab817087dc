"""The daemon's own log lines as they are read from outside: kept, filtered, streamed."""
