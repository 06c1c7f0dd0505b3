"""`make bench`: the filter beside its rivals, in one run, with the same load and the same backend.

load       h2load, and what it says
rivals     who is measured
service    the design that the filter replaces
floor/     the least that a filter can do which exports a body
report     tables and the picture
"""
