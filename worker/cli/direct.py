"""HTTP requests to the named host itself, whatever proxies the environment names: they carry keys and logins."""

import urllib.request

_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))

open_directly = _OPENER.open
"""`urllib.request.urlopen` without proxies, with its arguments and errors."""
