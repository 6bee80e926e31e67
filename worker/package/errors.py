"""The errors that a program can meet: `ops/handbook/errors.md`."""

from worker.errors import *
