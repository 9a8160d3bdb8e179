"""What a check says: records, reasons, and their text for people and machines. Judges nothing, measures nothing."""
