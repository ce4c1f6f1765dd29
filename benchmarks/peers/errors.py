"""Why a server has no figures."""


class PeerFailed(Exception):
    """It could not be installed or started, answered wrongly, or broke off."""
