"""Fig. 1 of the supplement: one stylizing network trained with each normalisation."""
