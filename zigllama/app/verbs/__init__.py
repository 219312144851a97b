"""The verbs of the command line, a module each: `configure(parser)` declares the flags, `run(args)` does it and returns
the exit code.
"""
