"""Dead letters in; work out and its outcomes in; what operators look at and change."""
