"""The checker that the import hook of conftest.py puts around every function: beartype, where an int is a float too."""

from beartype import BeartypeConf, beartype

checked = beartype(conf=BeartypeConf(is_pep484_tower=True))
