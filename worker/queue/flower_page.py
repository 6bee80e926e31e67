"""Flower's page of tasks with all its columns on a screen of 1,440 pixels.

Our ids have 36 characters and begin alike, so the middle of an id is left out; other long texts are cut at their end.
The tooltip of a cell is its whole text. Flower has no option for this, so its template is loaded with an addition.
"""

from pathlib import Path

from tornado.template import Loader, Template

WIDTHS = {  # of `flower.COLUMNS`, in percent
    "uuid": 14.6,
    "attempt": 6.8,
    "session_id": 12.8,
    "team": 7.6,
    "state": 6.1,
    "result": 17.7,
    "received": 13.4,
    "runtime": 7.3,
    "worker": 13.7,
}
STYLE = """
.tasks-table-card table.tasks-table { table-layout: fixed; width: 100% !important; min-width: 80rem; }
.tasks-table-card .dataTables_scrollHeadInner { width: 100% !important; min-width: 80rem; }
.tasks-table-card table.tasks-table th, .tasks-table-card table.tasks-table td {
  box-sizing: border-box; padding: 0.625rem 0.5rem; font-size: 0.8125rem;
  overflow: hidden !important; text-overflow: ellipsis; white-space: nowrap;
}
.tasks-table-card table.tasks-table th { padding-right: 1.125rem; font-size: 0.6875rem; letter-spacing: 0; }
#tasks-table .worker-name-link { max-width: 100%; }
""" + "".join(
    f".tasks-table-card table.tasks-table th:nth-child({n}) {{ width: {width}% !important; }}\n"
    for n, width in enumerate(WIDTHS.values(), start=1)
)
SCRIPT = r"""
$('#tasks-table').on('draw.dt', function () {
    var shortened = function (_, text) { return text.replace(/(_[0-9a-f]{8})[0-9a-f]{18}([0-9a-f]{6})/, '$1…$2'); };
    $('#tasks-table tbody tr').each(function () {
        var cells = $(this).children();
        cells.not(':has(*)').attr('title', function () { return this.textContent; });
        cells.eq(0).find('.task-uuid-full').text(shortened);
        cells.eq(2).text(shortened);
    });
});
"""
ADDITION = f"{{% block extra_scripts %}}<style>{STYLE}</style><script>{SCRIPT}</script>{{% end %}}"


def loader(directory: str) -> Loader:
    """Return a loader of the templates in *directory*, with the addition to the page of tasks."""
    templates, name = Loader(directory), "tasks.html"
    text = (Path(directory) / name).read_text(encoding="utf-8") + ADDITION
    templates.templates[name] = Template(text, name=name, loader=templates)
    return templates
