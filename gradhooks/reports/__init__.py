"""What is reported: verdicts and reasons, records, text and JSON; no formula and no file."""
