"""The team `notes` as it might be after a deploy: with an instruction that it did not have before."""

from tests.support.teams import model, note
from worker import Team

notes = Team(id="notes", model=model, tools=[note], add_history_to_context=True, instructions="I am Zed.")
