//! The corpus through `keyward explain`: what a person asks before a rollout.
