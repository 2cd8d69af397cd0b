#!/bin/sh
# The whole way in one minute: traffic with an attack in it, found by the detectors, read as an alert.
# Needs `querywatch` on the path; writes ./demo and the embedded store ./var/alerts.sqlite.
set -eu

bold='' plain=''
if [ -t 1 ]; then
    bold=$(printf '\033[1m') plain=$(printf '\033[0m')
fi

step() {
    printf '\n%s%s%s\n' "$bold" "$1" "$plain"
}

mkdir -p demo

step '1 of 4  Simulate an hour of calls to prediction APIs: a few dozen clients, and one that inverts a model'
querywatch simulate --out demo/capture.jsonl.gz

step '2 of 4  Replay the calls through the detectors, as the live service would see them'
if ! ls "$(python -c 'import detector; print(detector.__path__[0])')"/__pycache__/*.nbc >/dev/null 2>&1; then
    echo 'The first run compiles the detectors, once: a minute or two.'
fi
querywatch replay demo/capture.jsonl.gz

step '3 of 4  What an analyst finds in the store'
querywatch alerts list --replay --limit 10

step '4 of 4  The inversion in full: why, how sure, how far, what to do'
worst='
import json, sys
alerts = [json.loads(line) for line in sys.stdin]
if alerts:
    print(max(alerts, key=lambda alert: alert["event"]["risk_score"])["querywatch"]["alert_id"][:8])
'
id=$(querywatch alerts list --replay --rule inversion-ascent --json | grep '^{' | python -c "$worst")
if [ -z "$id" ]; then
    echo 'The inversion was not found: that is a fault of querywatch.' >&2
    exit 1
fi
querywatch alerts show --replay "$id"

step 'Try next'
cat <<'END'
  . .venv/bin/activate                                    for the commands below
  grep '"hostile":true' demo/capture.truth.jsonl          the truth: who attacked, how, and whether it worked
  querywatch rules show inversion-ascent                  the rule behind the alert, with its blind spots
  querywatch simulate --attacks all --out demo/all.jsonl.gz && querywatch replay demo/all.jsonl.gz
                                                          every attack that the simulator knows
  make servers                                            a real Kafka and Elasticsearch; docs/running.md goes on from there
  make test                                               all tests, on real servers
END
