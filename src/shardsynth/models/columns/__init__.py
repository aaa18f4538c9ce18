"""One column fitted and kept: what every native model shares."""
