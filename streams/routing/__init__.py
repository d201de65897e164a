"""Where a ticket goes, whether it is a duplicate, whether it is an echo of our own: pure; no Faust, no clock, no files, no await."""
