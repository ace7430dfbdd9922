"""Other people's protocols, so that their clients need a new address and nothing else."""
