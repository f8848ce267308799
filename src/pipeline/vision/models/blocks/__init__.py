"""The parts of which our own networks are built, each a table of exchangeable ones."""
