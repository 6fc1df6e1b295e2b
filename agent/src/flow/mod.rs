//! [`Segment`](crate::capture::Segment)s → ordered streams: chunks, and gaps where bytes are missing.
