"""Puts the daemon together: its objects, listeners and reloads, for `sollold.daemon` to run.

The only package that knows all others; nothing but `daemon` imports it.
"""
