"""LangGraph's development server at its defaults, on loopback at PORT: in memory, without its browser and its reloads.

https://docs.langchain.com/langsmith/cli
"""

import json
import os
import sys
from pathlib import Path

graph = Path(__file__).with_name("langgraph_graph.py")
Path("langgraph.json").write_text(json.dumps({"dependencies": ["."], "graphs": {"t": f"{graph}:graph"}}))
program = str(Path(sys.executable).with_name("langgraph"))
options = ["--host", "127.0.0.1", "--port", os.environ["PORT"], "--no-browser", "--no-reload"]
os.execv(program, [program, "dev", *options])
