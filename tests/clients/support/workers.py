"""A worker that a library's own command starts, for as long as a program runs."""
import os
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).parent.parent


@contextmanager
def worker(*command, **environment):
    """Runs a command of the virtual environment beside the program, and ends it in order; its words if it can't."""
    program = Path(sys.executable).parent / command[0]
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen([program, *command[1:]], cwd=HERE, env=os.environ | environment, stdout=said, stderr=said)
        failed = True
        try:
            yield process
            failed = False
        except SystemExit as ending:
            failed = ending.code != 0
            raise
        finally:
            process.terminate()
            try:
                status = process.wait(timeout=15)
            except subprocess.TimeoutExpired:
                process.kill()
                status = process.wait()
            if failed or status < 0:
                said.seek(0)
                print(f"the worker ended with {status} and said last:\n{''.join(said.readlines()[-40:])}")
