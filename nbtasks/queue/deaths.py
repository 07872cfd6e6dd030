"""How a slot died, as far as somebody saw it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Death:
    """How a slot died. With neither exit code nor signal nobody saw it: that is a loss, else a failure."""

    exit_code: int | None = None
    signal: int | None = None
    out_of_memory: bool = False
    peak_memory: int = 0
    reason: str = ""  # of an unseen death, e.g. "the host restarted at 03:12"

    @property
    def seen(self) -> bool:
        """True when the supervisor collected the exit status."""
        return self.exit_code is not None or self.signal is not None

    def words(self) -> str:
        """The death in words: "killed by signal 9 (SIGKILL), out of memory, peak 7.8 GB"."""
        if self.signal is not None:
            text = f"killed by signal {self.signal} ({_signal_name(self.signal)})"
            text += ", out of memory" if self.out_of_memory else ""
        elif self.exit_code is not None:
            text = f"its process ended with exit code {self.exit_code}"
        else:
            return self.reason or "its process died and nobody saw how"
        return text + (f", peak {self.peak_memory / 1e9:.1f} GB" if self.peak_memory > 1e8 else "")


def _signal_name(number: int) -> str:
    import signal

    try:
        return signal.Signals(number).name
    except ValueError:
        return "unknown"
