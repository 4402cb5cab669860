"""DreamerV3 for Super Mario Bros, built from TorchRL parts."""
