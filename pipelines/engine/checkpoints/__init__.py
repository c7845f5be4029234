"""Checkpoints: cells whose variables are kept, so that what stands before them is not executed twice.

A cell with the tag `checkpoint` begins with the comment `# checkpoint: NAME, NAME`. When it has
succeeded, the values of those variables are written to files of the attempt. A later attempt of
the same step, in another kernel, executes the cells that set things up, reads the values, and goes
on behind the checkpoint.

The variables are named by a comment and not given to a function of ours. So a notebook with
checkpoints runs in JupyterLab and by papermill as it stands, no package of ours is needed where its
kernel runs, and what is carried can be checked before anything runs.
"""
