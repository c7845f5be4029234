"""Makes runs when their time has come or something has happened: each once, however many schedulers there are.

How far a schedule has come stands in the store, and moves on in the transaction of its runs.
What is kept here besides, the next instants and what files were seen, only saves questions.
"""
