"""Normalisations by name: what goes where a model asks for a norm. To add one: a class and a line in the table."""
