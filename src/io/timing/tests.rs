//! Timing tables: shipped ones, broken ones, imported ones.
