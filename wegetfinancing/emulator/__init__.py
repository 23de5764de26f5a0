"""The vendor's API in memory: to run a whole checkout without an account or a network."""

from .core import Application, Emulator
from .faults import FAULTS, Effect, Fault
from .postbacks import SignedPostback, signed_postback

__all__ = ["FAULTS", "Application", "Effect", "Emulator", "Fault", "SignedPostback", "signed_postback"]
