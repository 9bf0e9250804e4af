"""What a worker shows over HTTP: health, metrics and committed rows of any worker's tables. Changes nothing.

server.py   the socket, its bounds, and who is let in
routes.py   paths to answers
tables.py   a row or a page of rows: from here, or from the worker that owns it
health.py   live and ready; figures.py the metrics
asked.py    what a request asks for; answer.py what is sent back; pages.py the HTML
"""
