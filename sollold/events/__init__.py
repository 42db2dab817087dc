"""The in-process event bus and its memory ring.

Publishing is synchronous, never waits and never raises.
"""
