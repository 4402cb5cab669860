"""TorchRL environments, always batched: [N]."""
