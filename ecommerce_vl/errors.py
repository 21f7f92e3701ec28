"""The error that a user can act on: what was checked, the value found, the value expected, how to fix it."""


class UserError(Exception):
    """Raised where the job cannot go on and the user can do something about it; a door prints it as one sentence."""
