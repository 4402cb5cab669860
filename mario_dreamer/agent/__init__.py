"""The agent: world model, actor, critic, imagination, returns, policy."""
