"""Worlds as TorchRL environments, always batched: [N]."""
