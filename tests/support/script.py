"""A script as a user writes it: `python -m tests.support.script DATABASE_URL INPUT` executes one run itself."""

import sys

from tests.support.teams import with_tool
from worker.db import Db

if __name__ == "__main__":
    with_tool.db = Db(sys.argv[1])
    print(with_tool.run(sys.argv[2], user_id="u", session_id="s").content)
