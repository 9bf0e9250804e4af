"""What agents keep: Faust's tables and windowed tables on the transactional store."""
