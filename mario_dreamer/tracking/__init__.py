"""Log how a run goes: trackers (TorchRL loggers), the table of metrics, videos, the terminal.

Nothing here is needed to learn, and nothing here can stop it.
"""
