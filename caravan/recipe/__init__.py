"""The recipe: one YAML file that names the stages of a run. Parsed and checked before torch is imported."""
