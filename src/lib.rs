//! The filter: Envoy glue around `keyward-policy`.
