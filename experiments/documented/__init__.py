"""The numbers that pages tell, held to the rows that experiments have recorded."""
