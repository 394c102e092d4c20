"""What the laws of a study, or anybody's table of runs, say to the person who must decide. Imports no torch.

`families` reads a study's laws from its lab; `advice` ranks them under a budget; `published` says what published
exponents say; `audit` checks a table of results; `next_runs` finds the cells that would narrow an answer most;
`rehearsal` asks before anything is spent whether a grid can identify its exponents.
"""
