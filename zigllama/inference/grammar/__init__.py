"""Grammars: what may be written, byte by byte. Front ends (GBNF, EBNF, regular expressions, schemas) give rules or a
machine; the machine says of each state which bytes, and so which tokens, may follow.
"""
