//! Where assignments come from, and where reports on them go.
