//! One direction, event by event.
