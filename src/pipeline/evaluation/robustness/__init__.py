"""How a network stands changes of its images: corruptions, adversaries, movements."""
