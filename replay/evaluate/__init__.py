"""The scoreboard: captures with known truth through the live pipeline, and published detectors beside it.

    truth.py    what really happened: one line a client and model
    stream.py   who asked when: the capture's events by client; which alarms fall into an attack
    watch.py    the live pipeline over a capture: its alerts, and how high its evidence rose
    anchors.py  the published detectors over the same capture, their alarms in episodes as our alerts are
    outcome.py  alarms against truth, client by client and campaign by campaign
    score.py    outcomes into rates with exact bounds (bounds.py), and the operating curve
    targets.py  outcomes against what counts as good; matched.py: against the published detectors at equal false alarms
    degrade.py  a capture with less detail; ablation.py: without one detector; cost.py: what each costs
    board.py    all of it in one document; compare.py: two documents; show.py, tables.py, plot.py: for eyes

An alert before an attack began is a false one. Every detector goes through the same scoring.
"""
