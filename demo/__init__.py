"""A fleet to look at: `make run` starts it beside the server, `python -m demo` breaks it.

Processes of four services use the SDK against local stand-ins of well-known dependencies.
Nothing here is imported by the server but `demo.plan`, which says what there is.
"""
