"""Links that lose, delay and reorder: in virtual time, where everything is exact, and in real time, to run programs."""
