"""What our processes log: one line for each event, whose run and request it was, without secrets; and how to read it again.

The lines are those of the standard library's `logging`: who logs needs nothing of this package.
"""
