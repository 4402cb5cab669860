"""Learning: the learner's update, the loop around it, its schedule and its checkpoints."""
