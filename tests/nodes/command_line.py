"""The command line in the test's own process: to start another takes as long as what it does."""

from subprocess import CompletedProcess

from typer.testing import CliRunner

from dataspace.cli import app


def dataspace(*arguments: object, text: str = "") -> CompletedProcess[str]:
    """Run `dataspace ARGUMENTS` with `text` as its standard input.

    An error that the command does not turn into a sentence is the test's own.
    """
    words = [str(argument) for argument in arguments]
    done = CliRunner().invoke(app, words, input=text, catch_exceptions=False)
    return CompletedProcess(words, done.exit_code, done.stdout, done.stderr)
