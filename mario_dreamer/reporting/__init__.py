"""Reports: charts, maps of the level, and HTML pages that open without a network."""
