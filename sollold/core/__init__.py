"""The pure core: values and decisions.

Owns what is decided and why. Must not do I/O, read a clock, roll dice or import asyncio: time,
randomness and configuration are arguments.
"""
