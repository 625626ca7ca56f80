"""How clips and pictures are decoded and become the numbers that the encoders take. Imports no torch."""
