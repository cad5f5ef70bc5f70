"""`keepip load`: reservations, pods and churn on any cluster; tables, a page of plots, and nothing left behind.

cli.py      what was asked, and the exit code             run.py      the phases of one run
client.py   the API server, as a plain user has it        watching.py what becomes of what was asked for
traffic.py  so many at once, or so many a second          scrape.py   the controller's own /metrics
clean.py    everything with our label goes                results.py  what a run has found, and its file
screen.py   progress and tables in a terminal             report.py, chart.py   the page

The controller imports nothing of this; `rich` comes with the extra `load`.
"""
