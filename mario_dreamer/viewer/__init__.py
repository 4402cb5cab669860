"""The browser page: watch an agent, play inside its dream, compare two agents."""
