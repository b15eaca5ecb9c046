class CoreError(Exception):
    """A failure inside the core."""

    def __init__(self, kind, message, log="", program=""):
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.log = log
        self.program = program
