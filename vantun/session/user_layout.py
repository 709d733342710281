"""The row of a user in the tables. Rates in bytes per second (0 = no limit), tokens in bytes, times in seconds."""

from __future__ import annotations

import numpy as np

user_dtype = np.dtype(
    [
        ("send_rate", "f8"),  # 0 = no limit
        ("send_tokens", "f8"),
        ("send_at", "f8"),
        ("receive_rate", "f8"),
        ("receive_tokens", "f8"),
        ("receive_at", "f8"),
        ("sent_bytes", "i8"),
        ("received_bytes", "i8"),
        ("dropped_rate", "i8"),
    ],
    align=True,
)
