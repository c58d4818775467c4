"""One file per encoding: how symbols become bytes, and the program that decodes them."""
