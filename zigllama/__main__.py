"""`python -m zigllama`: the command line, for where the `zigllama` script is not on the path."""

import sys

from zigllama.app.main import main

sys.exit(main())
