"""Evidence as pictures: charts, maps of the level, and one HTML file that needs no network."""
