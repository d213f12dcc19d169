"""A campaign against stored runs: kills, damage, full disks, hostile command lines (docs/explanation/reliability.md).

`make campaign` runs it at full size; tests/campaign/test_campaign.py runs a small part of it, with the same seeds, in the suite.
"""
