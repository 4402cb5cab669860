"""Super Mario Bros as a TorchRL environment."""
