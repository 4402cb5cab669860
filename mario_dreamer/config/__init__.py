"""From YAML to objects; besides the commands, the only place that knows Hydra."""
