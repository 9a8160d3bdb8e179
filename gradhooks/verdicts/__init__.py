"""From numbers to verdicts and to words. Pure: asks no oracle."""
