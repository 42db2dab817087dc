"""The command `sollolctl`: a quick client of the daemon's HTTP documents.

Imports no server code, so that a Tab press stays quick.
"""
