"""A GPU's half hour: the steps in order of worth, what they need, and what their results prove."""
