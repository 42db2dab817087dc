"""`sollold demo`: two real llama-servers, a daemon in front of them, and one chat in each dialect.

It starts everything as child processes, and imports nothing of the daemon.
"""
