"""The template's plugin, broken in one way a file: each must fail the checks that name its fault, and no other.

`FAILS` says which; the faults are ones that were found in real plugins.
"""
