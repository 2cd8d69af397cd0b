"""The traffic simulator: real scikit-learn models, attacked and used as in production, with the truth beside it.

The modules in the order in which they matter:

    data.py     real data that ships inside installed packages, split into members, public and held-out records
    records.py  new genuine-looking records made from held-out ones
    models.py   fitting and fast, exact forward passes; victims.py: a model behind an interface, as its callers see it
    attacks/    one attack a file, with its paper; evasion.py: wrappers around any of them; judge.py: did it succeed?
    benign/     the ordinary and the hard kinds of benign clients
    pace.py     when the queries of a client arrive
    scenario.py presets: who asks which model, when; run.py: plays a scenario
    capture.py  events to a sorted capture file in bounded memory
    live.py     the same clients against somebody's own HTTP endpoint (endpoint.py), from given samples (samples.py)

Everything is drawn from one seed: the same seed gives the same bytes. Only live.py and endpoint.py read a clock, and
what they write differs from run to run.
"""
