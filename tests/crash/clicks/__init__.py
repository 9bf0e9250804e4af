"""A storm of clicks through two workers that are killed in turns, against an oracle of a few lines."""
