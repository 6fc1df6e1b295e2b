//! Reassembly: whatever the order of records, the stream is the same.
