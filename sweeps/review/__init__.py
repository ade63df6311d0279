"""The review server: a folder of runs, finished and running, to be looked at and decided from.

``runs`` finds the runs, ``watched`` reads one of them while it may be changing, ``comparison`` sets
two side by side, ``pages`` makes what a browser shows, ``app`` answers requests, ``access`` says
who may ask, and ``server`` listens.
"""
