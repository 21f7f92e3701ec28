"""The data report: what became of a feed, on one page, for those who are about to pay for training on it."""
