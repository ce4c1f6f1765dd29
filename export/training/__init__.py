"""Short, seeded trainings whose checkpoints the recipes `digits` and `tabular` export."""
