"""The HTTP edge towards clients: routes, dialect errors, metrics, event stream.

Handlers are thin: they read the body, ask `routing`, and answer.
"""
