//! What the way between proxy and service does to a request and its answer.

use crate::dice::Dice;
use serde_json::Value;

/// How bad the network is; percentages.
#[derive(Debug, Clone, Copy, Default)]
pub struct Weather {
    pub loss: u64,
    pub delay_ms: u64,
    pub truncated: u64,
    pub corrupted: u64,
    pub repeated: u64,
    pub other_status: u64,
}

impl Weather {
    pub fn any(dice: &mut Dice) -> Self {
        let mut part = |most: u64| if dice.chance(40) { dice.below(most + 1) } else { 0 };
        Self {
            loss: part(60),
            delay_ms: part(12_000),
            truncated: part(30),
            corrupted: part(50),
            repeated: part(30),
            other_status: part(40),
        }
    }

    pub fn delay(&self, dice: &mut Dice) -> u64 {
        1 + dice.below(5) + if self.delay_ms > 0 { dice.below(self.delay_ms) } else { 0 }
    }
}

/// A page that says something else than the service did, or nothing that makes sense.
pub fn corrupt(body: &str, dice: &mut Dice) -> String {
    let Ok(mut page) = serde_json::from_str::<Value>(body) else { return "}".to_owned() };
    let change = |value: &mut Value, dice: &mut Dice| {
        let number = value.as_u64().unwrap_or(0);
        *value = (if dice.chance(50) { number + 1 + dice.below(3) } else { number.saturating_sub(1 + dice.below(3)) })
            .into();
    };
    match dice.below(12) {
        // A last page that claims less than it brings would still be right, and ask for the rest again.
        0 if page["more"] == false => page["revision"] = (page["head"].as_u64().unwrap_or(0) + 1).into(),
        0 => change(&mut page["revision"], dice),
        1 => change(&mut page["head"], dice),
        2 => change(&mut page["since"], dice),
        3 => page["format"] = 2.into(),
        4 => page["more"] = (!page["more"].as_bool().unwrap_or(false)).into(),
        5 => change(&mut page["live"]["count"], dice),
        6 => page["live"]["checksum"] = format!("{:016x}", dice.next()).into(),
        7 => page["keys"] = "none".into(),
        8 | 9 => {
            if let Some(keys) = page["keys"].as_array_mut().filter(|keys| !keys.is_empty()) {
                let at = dice.below(keys.len() as u64) as usize;
                let taken = keys.remove(at);
                if dice.chance(30) {
                    keys.push(taken);
                }
            }
        }
        10 => {
            if let Some(key) = page["keys"].as_array_mut().and_then(|keys| keys.first_mut()) {
                let fields = ["name", "sha256", "id", "expires_at", "deleted", "disabled"];
                let field = dice.pick(&fields).copied().unwrap_or_default();
                key[field] = match field {
                    "deleted" | "disabled" => (!key[field].as_bool().unwrap_or(false)).into(),
                    "expires_at" => "2031-01-01T00:00:00Z".into(),
                    "sha256" => "0".repeat(64).into(),
                    _ => "someone else".into(),
                };
            }
        }
        _ => return "x".repeat(dice.below(50) as usize),
    }
    page.to_string()
}
