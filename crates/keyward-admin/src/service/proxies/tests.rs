//! Contact and receipts.
