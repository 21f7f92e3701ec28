"""One file per format of a feed: `read(path)` gives its rows, `count_rows(path)` their number where that is cheap."""
