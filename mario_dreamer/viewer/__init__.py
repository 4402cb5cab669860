"""Look into the agent's head in a browser: watch it, play inside its dream, compare agents."""
