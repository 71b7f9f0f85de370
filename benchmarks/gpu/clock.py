"""When this command began; imported before what takes seconds to import."""

import time

BEGAN = time.monotonic()
