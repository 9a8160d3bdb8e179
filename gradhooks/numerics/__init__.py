"""Formulas on arrays: nobody is asked, nobody is judged. NumPy only."""
