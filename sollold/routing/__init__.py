"""From an admitted request to an answer: admission, dispatch, relay.

Owns the queue, the slots and every attempt. Decisions themselves are made in `sollold.core`.
"""
