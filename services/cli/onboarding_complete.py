"""`certwire onboarding complete`."""

import argparse
import asyncio

from services.cli.errors import OK


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.epilog = (
        "Until then the management API of certificates and agents answers 503. Safe to repeat.\n\n"
        "Example:\n  certwire onboarding complete"
    )


def run(_arguments: argparse.Namespace) -> int:
    """End the FRESH state."""
    asyncio.run(_complete())
    print("onboarding is completed")
    return OK


async def _complete() -> None:
    from contracts.registry import CompleteOnboarding
    from services.cli.bus import ask, cli_bus
    from shared.broker import own_call
    from shared.settings import Settings

    async with cli_bus(Settings()) as bus:
        await ask(bus, CompleteOnboarding(call=own_call()))
