"""The FreezeNet protocol (docs/protocol.md) as pure functions on integers and bytes.

State in, state out: no clock, input/output, logging, randomness or floating point. Time, accounts and the
checks of signatures and of work are arguments. Imports the standard library and numpy alone.
"""
