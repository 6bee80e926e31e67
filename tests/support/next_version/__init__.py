"""What the next version changes in the schema: `runs.team_version` is called `definition_version`, in two halves.

`tests/support/versions.py` puts these revisions behind those of the product, in a copy of it.
"""
