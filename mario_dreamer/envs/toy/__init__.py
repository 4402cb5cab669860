"""Small environments whose best return is known."""
