"""From YAML to objects: the only place that knows Hydra."""
