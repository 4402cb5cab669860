"""Parts that learn: world model, actor, critic, and what they make of imagined rollouts."""
