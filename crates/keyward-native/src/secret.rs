//! The edge token from a secret of Envoy (`admin.token_secret`).
//!
//! Envoy keeps the secret up to date and says nothing when it changes, so it is read at every tick.

use crate::host::Secret;
use keyward_edge::token;
use std::time::Duration;

/// The time after which a secret that has no token is worth a line in the log. Envoy fetches secrets after the
/// configuration is made, so that each is missing for a moment.
const PATIENCE: Duration = Duration::from_secs(2);

/// A secret that is to hold the edge token.
pub struct Token {
    name: Box<str>,
    secret: Secret,
    missing: Missing,
}

impl Token {
    /// Takes a secret of this name.
    pub fn new(name: &str, secret: Secret) -> Self {
        Self { name: name.into(), secret, missing: Missing::default() }
    }

    /// Returns the token of the secret. `None` means that it holds none now.
    pub fn read(&mut self, now: Duration) -> Option<Box<str>> {
        let token = token::parse(&self.secret.value());
        match self.missing.note(token.is_none(), now) {
            Some(true) => log::error!(
                "keyward: admin.token_secret: the secret `{}` holds no token: no keys are fetched with it until it does",
                self.name
            ),
            Some(false) => log::info!("keyward: admin.token_secret: the secret `{}` holds a token again", self.name),
            None => {}
        }
        token
    }
}

/// How long a token has been missing, and whether that was logged.
#[derive(Debug, Default)]
struct Missing {
    since: Option<Duration>,
    logged: bool,
}

impl Missing {
    /// Returns whether there is something to log: that the token is missing, or with `false` that it is there again.
    fn note(&mut self, missing: bool, now: Duration) -> Option<bool> {
        if !missing {
            self.since = None;
            return std::mem::take(&mut self.logged).then_some(false);
        }
        let since = *self.since.get_or_insert(now);
        if self.logged || now.saturating_sub(since) < PATIENCE {
            return None;
        }
        self.logged = true;
        Some(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_token_is_logged_once_and_not_at_once() {
        let mut missing = Missing::default();
        let at = Duration::from_secs;
        let said: Vec<_> =
            [(true, 10), (true, 11), (true, 12), (true, 13), (false, 14), (false, 15), (true, 16), (false, 17)]
                .map(|(is_missing, seconds)| missing.note(is_missing, at(seconds)))
                .into();
        assert_eq!(said, [None, None, Some(true), None, Some(false), None, None, None]);
    }
}
