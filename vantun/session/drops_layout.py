"""What a worker counts of what it has dropped, by reason; fields of :data:`.layout.pool_dtype`."""

from __future__ import annotations

drop_fields = [
    ("dropped_bad", "i8"),  # authentication failed
    ("dropped_replay", "i8"),
    ("dropped_no_row", "i8"),
    ("dropped_malformed", "i8"),
    ("dropped_late", "i8"),  # shards of blocks that were complete already
    ("dropped_window", "i8"),  # shards beyond the credit
    ("dropped_bound", "i8"),  # shards of sessions that hold, or cost, more than their share
    ("dropped_rate", "i8"),  # packets beyond the rate of a user
    ("dropped_crc", "i8"),  # recovered shards whose CRC was wrong
    ("dropped_epoch", "i8"),  # shards of another epoch
]
