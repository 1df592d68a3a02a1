"""What is said of results: the gate, the reproduction's verdict, the comparison of two runs."""
