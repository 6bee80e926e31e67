"""The tool by which a leader delegates, as its model sees it."""

from worker.loop.tools import tool

NAME = "delegate_task_to_member"


@tool(name=NAME)
def delegate(member_id: str, task: str) -> str:
    """Give a task to a member of your team, and get the member's answer.

    Args:
        member_id: id of the member, as your instructions name it.
        task: what the member shall do, with all that it needs to know: it sees nothing else.
    """
    raise NotImplementedError("carried out by the loop")
